-- One actor's repository. Tables and columns are named as spec service.md §8.2 names them; CIDs are kept as their 36 bytes, and a
-- record is keyed by its path, since the rest of its URI is the same for the whole database.

CREATE TABLE stratos_repo_root (
    did       TEXT PRIMARY KEY,
    cid       BLOB NOT NULL,
    rev       TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    indexedAt TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE stratos_repo_block (
    cid     BLOB PRIMARY KEY,
    repoRev TEXT NOT NULL,
    size    INTEGER NOT NULL,
    content BLOB NOT NULL
);

-- For exports `since` a rev.
CREATE INDEX stratos_repo_block_repo_rev_idx ON stratos_repo_block (repoRev);

CREATE TABLE stratos_record (
    collection  TEXT NOT NULL,
    rkey        TEXT NOT NULL,
    cid         BLOB NOT NULL,
    repoRev     TEXT NOT NULL,
    indexedAt   TEXT NOT NULL,
    takedownRef TEXT,
    PRIMARY KEY (collection, rkey)
) WITHOUT ROWID;

CREATE INDEX stratos_record_cid_idx ON stratos_record (cid);

CREATE TABLE stratos_backlink (
    collection TEXT NOT NULL,
    rkey       TEXT NOT NULL,
    path       TEXT NOT NULL,
    linkTo     TEXT NOT NULL,
    PRIMARY KEY (collection, rkey, path)
) WITHOUT ROWID;

CREATE INDEX stratos_backlink_link_to_idx ON stratos_backlink (path, linkTo);
