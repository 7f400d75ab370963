UPDATE stratos_blocked_actor
SET attempts = attempts + 1, error = %(error)s, "nextAttempt" = %(next_attempt)s
WHERE did = %(did)s AND id = %(id)s
