-- An operator's wish. A new id makes void what is being fetched already: it may be older than the wish.
INSERT INTO stratos_blocked_actor (did, error, "blockedAt", "nextAttempt")
SELECT named.did, %(error)s, %(now)s, %(now)s
FROM unnest(%(dids)s::text[]) AS named (did)
ORDER BY named.did
ON CONFLICT (did) DO UPDATE SET id = DEFAULT, "nextAttempt" = excluded."nextAttempt"
RETURNING did, id, seq, attempts
