-- Where an actor's repository lies, and how far it is.

-- name: standing
SELECT s.name, s.version, h."commitCid", h.rev, h.seq
FROM actor_schema AS s
JOIN repo_head AS h ON h.did = s.did
WHERE s.did = %s AND h."commitCid" IS NOT NULL;

-- name: standings
SELECT s.name, s.version, h."commitCid", h.rev, h.seq, s.did
FROM actor_schema AS s
JOIN repo_head AS h ON h.did = s.did
WHERE s.did = ANY (%s) AND h."commitCid" IS NOT NULL;

-- name: outdated
SELECT did FROM actor_schema WHERE version < %s AND did > %s ORDER BY did LIMIT %s;

-- name: count_versions
SELECT count(*) FILTER (WHERE version < %(newest)s), count(*) FILTER (WHERE version > %(newest)s) FROM actor_schema;

-- name: lock_version
-- Whoever migrates holds it to the end of his transaction: nobody migrates what another one does, or has just done.
SELECT version FROM actor_schema WHERE did = %s FOR UPDATE;

-- name: lock_patience
-- Whoever reads a table waits behind a migration that waits for it.
SELECT set_config('lock_timeout', %s, true);

-- name: put_version
UPDATE actor_schema SET version = %s WHERE did = %s;
