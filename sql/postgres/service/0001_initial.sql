-- The service's tables, in the first schema of the search path. Names as in the SQLite twin and spec service.md §8.1; whatever is
-- put in order is compared byte by byte. Times without a text are microseconds since 1970.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- last_seq survives the trimming of the log; trimmed_seq is the highest seq that was ever trimmed.
INSERT INTO meta (name, value) VALUES ('last_seq', 0), ('trimmed_seq', 0), ('outbox_generation', 0);

CREATE TABLE enrollment (
    did              TEXT COLLATE "C" PRIMARY KEY,
    "enrolledAt"     TEXT NOT NULL,
    "pdsEndpoint"    TEXT,
    "signingKeyDid"  TEXT NOT NULL,
    active           TEXT NOT NULL DEFAULT 'true',
    "enrollmentRkey" TEXT
);

CREATE TABLE enrollment_boundary (
    did      TEXT COLLATE "C" NOT NULL REFERENCES enrollment (did) ON DELETE CASCADE,
    boundary TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (did, boundary)
);

-- One row per key that an account ever signed with here; `retired` is NULL for the current one.
CREATE TABLE signing_key (
    did             TEXT COLLATE "C" NOT NULL REFERENCES enrollment (did) ON DELETE CASCADE,
    "signingKeyDid" TEXT NOT NULL,
    sealed          BYTEA NOT NULL,
    created         TEXT NOT NULL,
    retired         TEXT,
    PRIMARY KEY (did, "signingKeyDid")
);

-- The commit log. kind: 2 = #commit, 3 = #enrollment. There is no redo: append and apply are one transaction.
CREATE TABLE log (
    seq   BIGINT PRIMARY KEY,
    did   TEXT COLLATE "C" NOT NULL,
    kind  SMALLINT NOT NULL,
    rev   TEXT COLLATE "C" NOT NULL,
    time  BIGINT NOT NULL,
    views BYTEA NOT NULL,
    frame BYTEA NOT NULL
);

CREATE INDEX log_did_idx ON log (did, seq);
CREATE INDEX log_time_idx ON log (time);
CREATE INDEX log_enrollment_idx ON log (seq) WHERE kind = 3;

-- The log's view of every repository. After a hard unenroll the row stays as a tombstone ("commitCid" NULL): rev and seq are never
-- used again. "trimmedSeq": the highest trimmed seq of this DID.
CREATE TABLE repo_head (
    did          TEXT COLLATE "C" PRIMARY KEY,
    "commitCid"  BYTEA,
    rev          TEXT COLLATE "C" NOT NULL DEFAULT '',
    seq          BIGINT NOT NULL DEFAULT 0,
    "trimmedSeq" BIGINT NOT NULL DEFAULT 0
);

-- The schemas that actors' repositories lie in, and which migrations they have.
CREATE TABLE actor_schema (
    did     TEXT COLLATE "C" PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL
);

-- Schemas of unenrolled actors that are still to be dropped.
CREATE TABLE purge (
    did  TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE consumer_cursor (
    consumer TEXT PRIMARY KEY,
    seq      BIGINT NOT NULL
);

-- The last batch of every process, by which one whose COMMIT was not answered learns what became of it.
CREATE TABLE batch_writer (
    writer TEXT PRIMARY KEY,
    batch  BIGINT NOT NULL,
    time   BIGINT NOT NULL
);
