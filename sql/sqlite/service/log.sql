-- Pages of the log. The literal conditions on `kind` are those of the partial indexes.

-- name: after
SELECT seq, did, kind, views, frame FROM log WHERE seq > ? AND kind < 9 ORDER BY seq LIMIT ?;

-- name: after_commits
SELECT seq, did, kind, views, frame FROM log WHERE seq > ? AND kind = 2 ORDER BY seq LIMIT ?;

-- name: after_enrollments
SELECT seq, did, kind, views, frame FROM log WHERE seq > ? AND kind = 3 ORDER BY seq LIMIT ?;

-- name: actor_after
SELECT seq, did, kind, views, frame FROM log WHERE did = ? AND seq > ? AND kind < 9 ORDER BY seq LIMIT ?;

-- name: actor_commits_after
SELECT seq, did, kind, views, frame FROM log WHERE did = ? AND seq > ? AND kind < 9 AND kind = 2 ORDER BY seq LIMIT ?;

-- name: actor_enrollments_after
SELECT seq, did, kind, views, frame FROM log WHERE did = ? AND seq > ? AND kind < 9 AND kind = 3 ORDER BY seq LIMIT ?;

-- name: trimmed
SELECT value FROM meta WHERE name = 'trimmed_seq';

-- name: actor_trimmed
SELECT trimmedSeq FROM repo_head WHERE did = ?;

-- name: repo_head
SELECT h.did, h.commitCid, h.rev, h.seq, coalesce(e.active, 'false')
FROM repo_head AS h
LEFT JOIN enrollment AS e ON e.did = h.did
WHERE h.did = ? AND h.commitCid IS NOT NULL;

-- name: repo_heads
SELECT h.did, h.commitCid, h.rev, h.seq, coalesce(e.active, 'false')
FROM repo_head AS h
LEFT JOIN enrollment AS e ON e.did = h.did
WHERE h.did > ? AND h.commitCid IS NOT NULL
ORDER BY h.did
LIMIT ?;
