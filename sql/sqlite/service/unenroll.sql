-- Everything here runs in the transaction that appends the `unenroll` entry.

-- name: delete_enrollment
DELETE FROM enrollment WHERE did = ?;

-- name: erase_entries
-- Bodies are overwritten in place with as many zeros, rows stay where they are: see ADR 2 for why they are not deleted.
UPDATE log SET kind = 9, views = zeroblob(length(views)), frame = zeroblob(length(frame)), redo = zeroblob(length(redo))
WHERE did = ? AND kind < 9;

-- name: queue_purge
INSERT INTO purge (did) VALUES (?) ON CONFLICT DO NOTHING;

-- name: pending_purges
SELECT did FROM purge ORDER BY did;

-- name: purge_done
DELETE FROM purge WHERE did = ?;
