-- Where an actor's repository lies, and how far it is.

-- name: standing
SELECT s.name, s.version, h."commitCid", h.rev, h.seq
FROM actor_schema AS s
JOIN repo_head AS h ON h.did = s.did
WHERE s.did = %s AND h."commitCid" IS NOT NULL;

-- name: outdated
SELECT did, name FROM actor_schema WHERE version < %s AND did > %s ORDER BY did LIMIT %s;

-- name: count_outdated
SELECT count(*) FROM actor_schema WHERE version < %s;

-- name: lock_version
SELECT version FROM actor_schema WHERE did = %s FOR UPDATE;

-- name: put_version
UPDATE actor_schema SET version = %s WHERE did = %s;
