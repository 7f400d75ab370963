-- What is sealed under the master key. Retired keys are erased, and have nothing to be sealed anew.

-- name: count_keys
SELECT count(*) FROM signing_key WHERE retired IS NULL;

-- name: page_keys
SELECT did, sealed FROM signing_key WHERE did > ? AND retired IS NULL ORDER BY did LIMIT ?;

-- name: replace_keys
UPDATE signing_key SET sealed = ? WHERE did = ? AND sealed = ? AND retired IS NULL;

-- name: count_sessions
SELECT count(*) FROM oauth_session;

-- name: page_sessions
SELECT did, sealed FROM oauth_session WHERE did > ? ORDER BY did LIMIT ?;

-- name: replace_sessions
UPDATE oauth_session SET sealed = ? WHERE did = ? AND sealed = ?;

-- name: count_states
SELECT count(*) FROM oauth_state;

-- name: page_states
SELECT key, sealed FROM oauth_state WHERE key > ? ORDER BY key LIMIT ?;

-- name: replace_states
UPDATE oauth_state SET sealed = ? WHERE key = ? AND sealed = ?;
