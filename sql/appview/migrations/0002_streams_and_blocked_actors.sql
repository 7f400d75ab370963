-- The position in each source's stream. "reconcileWanted": how many times events were found missing since every actor was last
-- compared with the service.
CREATE TABLE stratos_stream_cursor (
    source text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0,
    "updatedAt" text NOT NULL DEFAULT '',
    "reconcileWanted" bigint NOT NULL DEFAULT 0
);

-- Actors whose rows must be fetched anew before further commits may be applied.
-- seq, rev: the latest event and commit of the actor that the stream has carried past it while it was blocked.
CREATE TABLE stratos_blocked_actor (
    did text COLLATE "C" PRIMARY KEY,
    id bigint GENERATED ALWAYS AS IDENTITY,
    seq bigint NOT NULL DEFAULT 0,
    rev text COLLATE "C",
    error text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    "blockedAt" text COLLATE "C" NOT NULL DEFAULT '',
    "nextAttempt" text COLLATE "C" NOT NULL DEFAULT ''
);

CREATE INDEX stratos_blocked_actor_next_attempt_idx ON stratos_blocked_actor ("nextAttempt");

-- Shared with an upstream Bluesky AppView where one lives in the same schema.
CREATE TABLE IF NOT EXISTS actor (
    did text PRIMARY KEY,
    handle text UNIQUE,
    "indexedAt" text NOT NULL DEFAULT ''
);

-- The service's list of active repositories while all actors are being compared with it.
CREATE TABLE stratos_listed_actor (
    source text COLLATE "C",
    did text COLLATE "C",
    rev text COLLATE "C",
    PRIMARY KEY (source, did)
);
