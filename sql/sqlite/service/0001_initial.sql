-- The service database. Columns of `enrollment` and `enrollment_boundary` are named as spec service.md §8.1 names them.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- last_seq survives the trimming of the log; trimmed_seq is the highest seq that was ever trimmed.
INSERT INTO meta (name, value) VALUES ('last_seq', 0), ('trimmed_seq', 0);

CREATE TABLE enrollment (
    did            TEXT PRIMARY KEY,
    enrolledAt     TEXT NOT NULL,
    pdsEndpoint    TEXT,
    signingKeyDid  TEXT NOT NULL,
    active         TEXT NOT NULL DEFAULT 'true',
    enrollmentRkey TEXT
);

CREATE TABLE enrollment_boundary (
    did      TEXT NOT NULL REFERENCES enrollment (did) ON DELETE CASCADE,
    boundary TEXT NOT NULL,
    PRIMARY KEY (did, boundary)
) WITHOUT ROWID;

CREATE INDEX enrollment_boundary_did_idx ON enrollment_boundary (did);

-- One row per key that an account ever signed with here; `retired` is NULL for the current one.
CREATE TABLE signing_key (
    did           TEXT NOT NULL REFERENCES enrollment (did) ON DELETE CASCADE,
    signingKeyDid TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    created       TEXT NOT NULL,
    retired       TEXT,
    PRIMARY KEY (did, signingKeyDid)
) WITHOUT ROWID;

-- The commit log. kind: 2 = #commit, 3 = #enrollment, 9 = erased (bodies overwritten with zeros in place, see ADR 2).
-- `time` is in microseconds since 1970. `redo` comes last, so that replay does not read past `frame`.
CREATE TABLE log (
    seq   INTEGER PRIMARY KEY,
    did   TEXT NOT NULL,
    kind  INTEGER NOT NULL,
    rev   TEXT NOT NULL,
    time  INTEGER NOT NULL,
    views BLOB NOT NULL,
    frame BLOB NOT NULL,
    redo  BLOB NOT NULL
);

CREATE INDEX log_did_idx ON log (did, seq) WHERE kind < 9;
CREATE INDEX log_time_idx ON log (time) WHERE kind < 9;
CREATE INDEX log_enrollment_idx ON log (seq) WHERE kind = 3;

-- The log's view of every repository. After a hard unenroll the row stays as a tombstone (commitCid NULL): rev and seq are never
-- used again. checkpointedSeq: the actor store is durable up to here. trimmedSeq: the highest trimmed seq of this DID.
CREATE TABLE repo_head (
    did             TEXT PRIMARY KEY,
    commitCid       BLOB,
    rev             TEXT NOT NULL DEFAULT '',
    seq             INTEGER NOT NULL DEFAULT 0,
    checkpointedSeq INTEGER NOT NULL DEFAULT 0,
    trimmedSeq      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Actor stores that are still to be destroyed.
CREATE TABLE purge (
    did TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE consumer_cursor (
    consumer TEXT PRIMARY KEY,
    seq      INTEGER NOT NULL
) WITHOUT ROWID;
