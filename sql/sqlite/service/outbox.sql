-- The publisher's outbox.

-- name: next_generation
UPDATE meta SET value = value + 1 WHERE name = 'outbox_generation' RETURNING value;

-- name: mark_account
INSERT INTO outbox_account (did, due, generation) VALUES (:did, :now, :generation)
ON CONFLICT (did) DO UPDATE SET
    generation = excluded.generation,
    due = CASE WHEN :wake THEN excluded.due WHEN outbox_account.parked IS NULL THEN coalesce(outbox_account.due, excluded.due) END,
    failures = CASE WHEN :wake THEN 0 ELSE outbox_account.failures END,
    parked = CASE WHEN :wake THEN NULL ELSE outbox_account.parked END;

-- name: drop_items
DELETE FROM outbox WHERE did = :did;

-- name: mark_item
INSERT INTO outbox (did, path, generation, since, marked) VALUES (:did, :path, :generation, :at, :at)
ON CONFLICT (did, path) DO UPDATE SET
    generation = excluded.generation, marked = excluded.marked, failures = 0, blocked = NULL;

-- name: due
SELECT did, pds, failures, generation
FROM (
    SELECT did, pds, failures, generation, due, row_number() OVER (PARTITION BY pds ORDER BY due, did) AS place
    FROM outbox_account
    WHERE due <= :now
)
WHERE place <= :per_pds
ORDER BY due, did
LIMIT :limit;

-- name: next_due
SELECT min(due) FROM outbox_account WHERE due > ?;

-- name: items
SELECT path, generation, since, marked
FROM outbox
WHERE did = :did AND blocked IS NULL
ORDER BY CASE path WHEN :first THEN 0 WHEN :late THEN 2 WHEN :latest THEN 3 ELSE 1 END, failures, generation, path
LIMIT :limit;

-- name: remove_item
DELETE FROM outbox WHERE did = ? AND path = ? AND generation = ?;

-- name: block_item
UPDATE outbox SET blocked = ? WHERE did = ? AND path = ? AND generation = ?;

-- name: succeeded
UPDATE outbox_account SET failures = 0, lastError = NULL WHERE did = ?;

-- name: postpone_account
UPDATE outbox_account SET due = :until, failures = :failures, lastError = :reason WHERE did = :did AND due IS NOT NULL;

-- name: postpone_item
UPDATE outbox SET failures = failures + 1 WHERE did = ? AND path = ?;

-- name: rest
UPDATE outbox_account
SET due = CASE WHEN EXISTS (SELECT 1 FROM outbox AS o WHERE o.did = :did AND o.blocked IS NULL) THEN :now END
WHERE did = :did AND due IS NOT NULL;

-- name: settle
UPDATE outbox_account SET pds = ? WHERE did = ?;

-- name: park
UPDATE outbox_account SET parked = ?, due = NULL WHERE did = ? AND generation = ?;

-- name: forget_account
DELETE FROM outbox_account WHERE did = :did AND NOT EXISTS (SELECT 1 FROM outbox WHERE did = :did);

-- name: unpark_all
UPDATE outbox_account
SET parked = NULL,
    due = CASE WHEN EXISTS (SELECT 1 FROM outbox AS o WHERE o.did = outbox_account.did AND o.blocked IS NULL) THEN :now END
WHERE parked IS NOT NULL;

-- name: unblock
UPDATE outbox SET blocked = NULL, failures = 0 WHERE did = coalesce(:did, did);

-- name: hurry
UPDATE outbox_account
SET parked = NULL, failures = 0, due = :now
WHERE did = coalesce(:did, did) AND EXISTS (SELECT 1 FROM outbox AS o WHERE o.did = outbox_account.did);

-- name: page
SELECT a.did, a.pds, a.due, a.failures, a.parked, a.lastError, count(*), min(o.since)
FROM outbox_account AS a
JOIN outbox AS o ON o.did = a.did
WHERE a.did > ?
GROUP BY a.did
ORDER BY a.did
LIMIT ?;

-- name: blocked
SELECT path, blocked FROM outbox WHERE did = ? AND blocked IS NOT NULL ORDER BY path LIMIT ?;

-- name: counts
SELECT
    count(*) FILTER (WHERE o.blocked IS NULL AND a.parked IS NULL),
    count(*) FILTER (WHERE o.blocked IS NULL AND a.parked IS NOT NULL),
    count(o.blocked),
    min(o.since) FILTER (WHERE o.blocked IS NULL AND a.parked IS NULL)
FROM outbox AS o
JOIN outbox_account AS a ON a.did = o.did;

-- name: failing
SELECT count(*) FROM outbox_account WHERE failures >= ?;
