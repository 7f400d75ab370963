-- name: lock
-- One batch at a time in all processes, to the end of the transaction: so that the order of `seq` is the order of commits.
SELECT pg_advisory_xact_lock(%s);

-- name: last_seq
SELECT value FROM meta WHERE name = 'last_seq';

-- name: heads
-- What the log knows of some DIDs, and where their repositories lie. One row each.
SELECT asked.did, h."commitCid", coalesce(h.rev, ''), coalesce(h.seq, 0), coalesce(e.active = 'true', false), s.version,
    e."signingKeyDid"
FROM unnest(%s::text[]) AS asked (did)
LEFT JOIN repo_head AS h ON h.did = asked.did
LEFT JOIN enrollment AS e ON e.did = asked.did
LEFT JOIN actor_schema AS s ON s.did = asked.did;

-- name: insert_entries
INSERT INTO log (seq, did, kind, rev, time, views, frame)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::smallint[], %s::text[], %s::bigint[], %s::bytea[], %s::bytea[]);

-- name: put_heads
INSERT INTO repo_head (did, "commitCid", rev, seq)
SELECT * FROM unnest(%s::text[], %s::bytea[], %s::text[], %s::bigint[])
ON CONFLICT (did) DO UPDATE SET "commitCid" = excluded."commitCid", rev = excluded.rev, seq = excluded.seq;

-- name: put_last_seq
UPDATE meta SET value = %s WHERE name = 'last_seq';

-- name: note_batch
INSERT INTO batch_writer (writer, batch, time) VALUES (%s, %s, %s)
ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, time = excluded.time;

-- name: noted_batch
SELECT batch FROM batch_writer WHERE writer = %s;

-- name: forget_writers
DELETE FROM batch_writer WHERE time < %s;

-- name: notify
SELECT pg_notify('stratos_log', %s);

-- name: put_schema
INSERT INTO actor_schema (did, name, version) VALUES (%s, %s, %s);
