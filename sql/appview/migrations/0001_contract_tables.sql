-- The tables of the indexer contract (names and quoted columns are fixed), with columns of ours where noted.
-- Keys, timestamps and boundaries compare bytewise (collation "C"): the same order on every machine, and the cheapest one.

CREATE TABLE stratos_post (
    uri text COLLATE "C" PRIMARY KEY,
    cid text NOT NULL DEFAULT '',
    rkey text NOT NULL DEFAULT '',
    creator text COLLATE "C" NOT NULL DEFAULT '',
    text text NOT NULL DEFAULT '',
    "replyRoot" text,
    "replyRootCid" text,
    "replyParent" text,
    "replyParentCid" text,
    embed text,
    facets text,
    langs text,
    labels text,
    tags text,
    "createdAt" text COLLATE "C" NOT NULL DEFAULT '',
    "indexedAt" text COLLATE "C" NOT NULL DEFAULT '',
    "sortAt" text COLLATE "C" GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED
);

CREATE INDEX stratos_post_sort_at_idx ON stratos_post ("sortAt" DESC);

CREATE INDEX stratos_post_creator_sort_at_idx ON stratos_post (creator, "sortAt" DESC, uri DESC);

-- Ours: creator and "sortAt" repeat the post's, so that a page of a feed is read from one index.
CREATE TABLE stratos_post_boundary (
    uri text COLLATE "C" NOT NULL,
    boundary text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL DEFAULT '',
    "sortAt" text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (uri, boundary)
);

CREATE INDEX stratos_post_boundary_boundary_uri_idx ON stratos_post_boundary (boundary, uri);

CREATE INDEX stratos_post_boundary_timeline_idx ON stratos_post_boundary (boundary, "sortAt" DESC, uri DESC);

CREATE INDEX stratos_post_boundary_author_idx ON stratos_post_boundary (creator, boundary, "sortAt" DESC, uri DESC);

-- "lastChecked" is the time at which the service last vouched for the boundaries; '' means: ask before use.
CREATE TABLE stratos_enrollment (
    did text COLLATE "C" PRIMARY KEY,
    "serviceUrl" text NOT NULL DEFAULT '',
    "enrolledAt" text NOT NULL DEFAULT '',
    "lastChecked" text NOT NULL DEFAULT '',
    boundaries text
);

-- Ours: rev, the repository revision that the actor's rows show.
CREATE TABLE stratos_sync_cursor (
    did text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0,
    "updatedAt" text NOT NULL DEFAULT '',
    rev text COLLATE "C"
);
