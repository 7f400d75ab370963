SELECT did, "blockedAt", attempts, "nextAttempt", error
FROM stratos_blocked_actor
ORDER BY "blockedAt", did
