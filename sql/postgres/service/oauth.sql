-- name: put_state
INSERT INTO oauth_state (key, sealed, "expiresAt") VALUES (%s, %s, %s)
ON CONFLICT (key) DO UPDATE SET sealed = excluded.sealed, "expiresAt" = excluded."expiresAt";

-- name: drop_states
DELETE FROM oauth_state WHERE key IN (SELECT key FROM oauth_state ORDER BY "expiresAt" DESC OFFSET %s);

-- name: take_state
DELETE FROM oauth_state WHERE key = %s RETURNING sealed;

-- name: count_states
SELECT count(*) FROM oauth_state;

-- name: expire_states
DELETE FROM oauth_state WHERE "expiresAt" <= %s;

-- name: put_session
INSERT INTO oauth_session (did, sealed, "putAt") VALUES (%s, %s, %s)
ON CONFLICT (did) DO UPDATE SET sealed = excluded.sealed, "putAt" = excluded."putAt";

-- name: get_session
SELECT sealed FROM oauth_session WHERE did = %s;

-- name: delete_session
DELETE FROM oauth_session WHERE did = %s;

-- name: sessions_put_before
SELECT did FROM oauth_session WHERE "putAt" < %s AND did > %s ORDER BY did LIMIT %s;
