-- Everything but `pending_purges` and what follows it runs in the transaction that appends the `unenroll` entry.

-- name: delete_enrollment
DELETE FROM enrollment WHERE did = %s;

-- name: erase_entries
DELETE FROM log WHERE did = %s;

-- name: queue_purge
INSERT INTO purge (did, name) SELECT did, name FROM actor_schema WHERE did = %s ON CONFLICT DO NOTHING;

-- name: forget_schema
DELETE FROM actor_schema WHERE did = %s;

-- name: pending_purges
SELECT did, name FROM purge ORDER BY did;

-- name: purge_done
DELETE FROM purge WHERE did = %s;

-- name: lock_purge
SELECT did FROM purge WHERE did = %s FOR UPDATE SKIP LOCKED;
