-- One actor's repository, in a schema of its own, which stands here as {actor}. Tables as in the SQLite twin. What lies out of line
-- is not compressed: records are small, and CIDs do not shrink.

CREATE TABLE {actor}.stratos_repo_root (
    did         TEXT PRIMARY KEY,
    cid         BYTEA NOT NULL,
    rev         TEXT COLLATE "C" NOT NULL,
    seq         BIGINT NOT NULL,
    "indexedAt" TEXT NOT NULL
);

CREATE TABLE {actor}.stratos_repo_block (
    cid       BYTEA PRIMARY KEY,
    "repoRev" TEXT COLLATE "C" NOT NULL,
    size      INTEGER NOT NULL,
    content   BYTEA NOT NULL
);

-- For exports `since` a rev.
CREATE INDEX stratos_repo_block_repo_rev_idx ON {actor}.stratos_repo_block ("repoRev");

CREATE TABLE {actor}.stratos_record (
    collection    TEXT COLLATE "C" NOT NULL,
    rkey          TEXT COLLATE "C" NOT NULL,
    cid           BYTEA NOT NULL,
    "repoRev"     TEXT COLLATE "C" NOT NULL,
    "indexedAt"   TEXT NOT NULL,
    "takedownRef" TEXT,
    PRIMARY KEY (collection, rkey)
);

CREATE INDEX stratos_record_cid_idx ON {actor}.stratos_record (cid);

CREATE TABLE {actor}.stratos_backlink (
    collection TEXT COLLATE "C" NOT NULL,
    rkey       TEXT COLLATE "C" NOT NULL,
    path       TEXT NOT NULL,
    "linkTo"   TEXT NOT NULL,
    PRIMARY KEY (collection, rkey, path)
);

CREATE INDEX stratos_backlink_link_to_idx ON {actor}.stratos_backlink (path, "linkTo");
