SELECT did, id, seq, attempts
FROM stratos_blocked_actor
WHERE "nextAttempt" <= %(now)s AND did <> ALL (%(busy)s)
ORDER BY "nextAttempt", did
LIMIT %(limit)s
