-- Whoever differs from the service's list is fetched anew: another rev, no enrollment here, or no longer listed at all.
-- A new id makes void what is being fetched already: it may be older than the list.
WITH known AS (
    SELECT coalesce(cursor.did, enrollment.did) AS did, cursor.rev, enrollment.did IS NOT NULL AS enrolled
    FROM stratos_sync_cursor AS cursor
    FULL JOIN stratos_enrollment AS enrollment ON enrollment.did = cursor.did
)
INSERT INTO stratos_blocked_actor (did, error, "blockedAt", "nextAttempt")
SELECT coalesce(known.did, listed.did), 'differs from the service''s list of repositories', %(now)s, %(now)s
FROM known
FULL JOIN (SELECT * FROM stratos_listed_actor WHERE source = %(source)s) AS listed ON listed.did = known.did
WHERE known.did IS NULL OR listed.did IS NULL OR NOT known.enrolled OR known.rev IS DISTINCT FROM listed.rev
ORDER BY coalesce(known.did, listed.did)
ON CONFLICT (did) DO UPDATE SET id = DEFAULT, "nextAttempt" = excluded."nextAttempt"
