-- What the OAuth client keeps; sealed values, times in microseconds since 1970.
CREATE TABLE oauth_session (
    did     TEXT COLLATE "C" PRIMARY KEY,
    sealed  BYTEA NOT NULL,
    "putAt" BIGINT NOT NULL
);

CREATE INDEX oauth_session_put ON oauth_session ("putAt");

CREATE TABLE oauth_state (
    key         TEXT PRIMARY KEY,
    sealed      BYTEA NOT NULL,
    "expiresAt" BIGINT NOT NULL
);

CREATE INDEX oauth_state_expiry ON oauth_state ("expiresAt");
