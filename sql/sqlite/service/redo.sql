-- What an actor store needs to catch up with the log.

-- name: standing
SELECT seq, EXISTS (SELECT 1 FROM purge WHERE did = ?1) FROM repo_head WHERE did = ?1 AND commitCid IS NOT NULL;

-- name: entries
SELECT seq, time, redo FROM log WHERE did = ? AND seq > ? AND kind < 9 AND kind = 2 ORDER BY seq LIMIT ?;

-- name: repositories
-- Whose database may be there: one that is being purged will be made anew.
SELECT did FROM repo_head
WHERE did > ? AND commitCid IS NOT NULL AND did NOT IN (SELECT did FROM purge)
ORDER BY did
LIMIT ?;
