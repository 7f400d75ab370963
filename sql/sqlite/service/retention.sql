-- name: trimmable
-- Actors whose oldest commit that is not yet durable in their store is old enough to be trimmed.
SELECT h.did
FROM repo_head AS h
WHERE h.did > ?
    AND h.commitCid IS NOT NULL
    AND h.seq > h.checkpointedSeq
    AND (SELECT l.time FROM log AS l
         WHERE l.did = h.did AND l.seq > h.checkpointedSeq AND l.kind < 9 AND l.kind = 2
         ORDER BY l.seq LIMIT 1) < ?
ORDER BY h.did
LIMIT ?;

-- name: slowest_consumer
SELECT min(seq) FROM consumer_cursor;

-- name: candidates
SELECT l.seq, l.did
FROM log AS l
LEFT JOIN repo_head AS h ON h.did = l.did
WHERE l.kind < 9 AND l.time < ? AND l.seq <= ? AND (l.kind = 3 OR h.checkpointedSeq >= l.seq)
ORDER BY l.time
LIMIT ?;

-- name: erase_entry
UPDATE log SET kind = 9, views = zeroblob(length(views)), frame = zeroblob(length(frame)), redo = zeroblob(length(redo))
WHERE seq = ?;

-- name: mark_actor
INSERT INTO repo_head (did, trimmedSeq) VALUES (?, ?)
ON CONFLICT (did) DO UPDATE SET trimmedSeq = max(trimmedSeq, excluded.trimmedSeq);

-- name: mark_all
UPDATE meta SET value = max(value, ?) WHERE name = 'trimmed_seq';

-- name: oldest_live
SELECT seq FROM log WHERE seq > ? AND kind < 9 ORDER BY seq LIMIT ?;

-- name: run_start
SELECT seq FROM log WHERE seq > ? AND seq < ? ORDER BY seq LIMIT 1 OFFSET ?;

-- name: run_end
SELECT seq FROM log WHERE seq > ? AND seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?;

-- name: delete_run
DELETE FROM log WHERE seq BETWEEN ? AND ?;

-- name: checkpointed
UPDATE repo_head SET checkpointedSeq = max(checkpointedSeq, ?) WHERE did = ? AND commitCid IS NOT NULL;
