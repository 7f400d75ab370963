WITH blocked AS (
    DELETE FROM stratos_blocked_actor WHERE did = ANY (%(dids)s)
),
boundaries AS (
    DELETE FROM stratos_post_boundary WHERE creator = ANY (%(dids)s)
),
posts AS (
    DELETE FROM stratos_post WHERE creator = ANY (%(dids)s)
),
cursors AS (
    DELETE FROM stratos_sync_cursor WHERE did = ANY (%(dids)s)
)
DELETE FROM stratos_enrollment WHERE did = ANY (%(dids)s)
