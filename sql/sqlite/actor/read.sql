-- name: root
SELECT cid, rev, seq FROM stratos_repo_root;

-- name: block
SELECT content FROM stratos_repo_block WHERE cid = ?;

-- name: record
SELECT r.collection, r.rkey, r.cid, r.repoRev, b.content
FROM stratos_record AS r
JOIN stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = ? AND r.rkey = ? AND r.takedownRef IS NULL;

-- name: records_at
-- The argument is a JSON list of [collection, rkey] pairs.
SELECT r.collection, r.rkey, r.cid, r.repoRev, b.content
FROM json_each(?) AS asked
CROSS JOIN stratos_record AS r
    ON r.collection = json_extract(asked.value, '$[0]') AND r.rkey = json_extract(asked.value, '$[1]')
CROSS JOIN stratos_repo_block AS b ON b.cid = r.cid
WHERE r.takedownRef IS NULL;

-- name: records_descending
SELECT r.collection, r.rkey, r.cid, r.repoRev, b.content
FROM stratos_record AS r
CROSS JOIN stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = ? AND r.rkey < ? AND r.takedownRef IS NULL
ORDER BY r.rkey DESC
LIMIT ?;

-- name: records_ascending
SELECT r.collection, r.rkey, r.cid, r.repoRev, b.content
FROM stratos_record AS r
CROSS JOIN stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = ? AND r.rkey > ? AND r.takedownRef IS NULL
ORDER BY r.rkey
LIMIT ?;

-- name: collections
-- One index search per collection, however many records each has.
WITH RECURSIVE present (collection) AS (
    SELECT min(collection) FROM stratos_record
    UNION ALL
    SELECT (SELECT min(r.collection) FROM stratos_record AS r WHERE r.collection > present.collection)
    FROM present
    WHERE present.collection IS NOT NULL
)
SELECT collection FROM present WHERE collection IS NOT NULL;

-- name: record_count
SELECT count(*) FROM stratos_record;
