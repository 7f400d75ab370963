SELECT did FROM stratos_enrollment
UNION
SELECT did FROM stratos_sync_cursor
UNION
SELECT did FROM stratos_blocked_actor
UNION
SELECT creator FROM stratos_post
ORDER BY 1
