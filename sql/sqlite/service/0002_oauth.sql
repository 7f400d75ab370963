-- What the OAuth client keeps; sealed values, times in microseconds since 1970.
CREATE TABLE oauth_session (
    did TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    putAt INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_session_put ON oauth_session (putAt);

CREATE TABLE oauth_state (
    key TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    expiresAt INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_state_expiry ON oauth_state (expiresAt);
