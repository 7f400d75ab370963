-- The publisher's outbox: where on an account's PDS something may have to be done. Times are in microseconds since 1970.

INSERT INTO meta (name, value) VALUES ('outbox_generation', 0);

-- `pds` is empty until we have had a session of the account: then nothing of ours can be there. `due` is NULL without open work and
-- while the account is parked; `parked` says why.
CREATE TABLE outbox_account (
    did        TEXT PRIMARY KEY,
    pds        TEXT NOT NULL DEFAULT '',
    due        INTEGER,
    failures   INTEGER NOT NULL DEFAULT 0,
    parked     TEXT,
    lastError  TEXT,
    generation INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX outbox_account_due_idx ON outbox_account (due) WHERE due IS NOT NULL;

-- `since` is the first mark that is not answered yet, `marked` the last one; `blocked` is why the PDS refuses.
CREATE TABLE outbox (
    did        TEXT NOT NULL REFERENCES outbox_account (did) ON DELETE CASCADE,
    path       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    marked     INTEGER NOT NULL,
    failures   INTEGER NOT NULL DEFAULT 0,
    blocked    TEXT,
    PRIMARY KEY (did, path)
) WITHOUT ROWID;
