-- The publisher's outbox: where on an account's PDS something may have to be done. Times are in microseconds since 1970.

-- `pds` is empty until we have had a session of the account: then nothing of ours can be there. `due` is NULL without open work and
-- while the account is parked; `parked` says why.
CREATE TABLE outbox_account (
    did        TEXT COLLATE "C" PRIMARY KEY,
    pds        TEXT NOT NULL DEFAULT '',
    due        BIGINT,
    failures   INTEGER NOT NULL DEFAULT 0,
    parked     TEXT,
    "lastError" TEXT,
    generation BIGINT NOT NULL
);

CREATE INDEX outbox_account_due_idx ON outbox_account (due) WHERE due IS NOT NULL;

-- `since` is the first mark that is not answered yet, `marked` the last one; `blocked` is why the PDS refuses.
CREATE TABLE outbox (
    did        TEXT COLLATE "C" NOT NULL REFERENCES outbox_account (did) ON DELETE CASCADE,
    path       TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    since      BIGINT NOT NULL,
    marked     BIGINT NOT NULL,
    failures   INTEGER NOT NULL DEFAULT 0,
    blocked    TEXT,
    PRIMARY KEY (did, path)
);
