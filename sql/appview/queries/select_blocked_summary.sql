SELECT count(*), count(*) FILTER (WHERE attempts >= %(alarm)s)
FROM stratos_blocked_actor
