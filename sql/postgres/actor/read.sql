-- Reads of one actor's repository. {actor} stands for the actor's schema.

-- name: root
SELECT cid, rev, seq FROM {actor}.stratos_repo_root;

-- name: block
SELECT content FROM {actor}.stratos_repo_block WHERE cid = %s;

-- name: blocks
SELECT cid, content FROM {actor}.stratos_repo_block WHERE cid = ANY (%s);

-- name: record
SELECT r.collection, r.rkey, r.cid, r."repoRev", b.content
FROM {actor}.stratos_record AS r
JOIN {actor}.stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = %s AND r.rkey = %s AND r."takedownRef" IS NULL;

-- name: records_at
SELECT r.collection, r.rkey, r.cid, r."repoRev", b.content
FROM unnest(%s::text[], %s::text[]) AS asked (collection, rkey)
JOIN {actor}.stratos_record AS r ON r.collection = asked.collection AND r.rkey = asked.rkey
JOIN {actor}.stratos_repo_block AS b ON b.cid = r.cid
WHERE r."takedownRef" IS NULL;

-- name: records_descending
SELECT r.collection, r.rkey, r.cid, r."repoRev", b.content
FROM {actor}.stratos_record AS r
JOIN {actor}.stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = %s AND r.rkey < %s AND r."takedownRef" IS NULL
ORDER BY r.rkey DESC
LIMIT %s;

-- name: records_ascending
SELECT r.collection, r.rkey, r.cid, r."repoRev", b.content
FROM {actor}.stratos_record AS r
JOIN {actor}.stratos_repo_block AS b ON b.cid = r.cid
WHERE r.collection = %s AND r.rkey > %s AND r."takedownRef" IS NULL
ORDER BY r.rkey
LIMIT %s;

-- name: collections
-- One index search per collection, however many records each has.
WITH RECURSIVE present (collection) AS (
    SELECT min(collection) FROM {actor}.stratos_record
    UNION ALL
    SELECT (SELECT min(r.collection) FROM {actor}.stratos_record AS r WHERE r.collection > present.collection)
    FROM present
    WHERE present.collection IS NOT NULL
)
SELECT collection FROM present WHERE collection IS NOT NULL;

-- name: record_count
SELECT count(*) FROM {actor}.stratos_record;
