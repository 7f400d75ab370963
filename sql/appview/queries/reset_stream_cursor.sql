-- The service's log is younger than our position: start again, compare everything, forget what other times had promised.
WITH positions AS (
    UPDATE stratos_sync_cursor SET seq = 0, "updatedAt" = %(now)s
),
promises AS (
    UPDATE stratos_blocked_actor SET seq = 0, rev = NULL
)
UPDATE stratos_stream_cursor
SET seq = 0, "updatedAt" = %(now)s, "reconcileWanted" = "reconcileWanted" + 1
WHERE source = %(source)s
