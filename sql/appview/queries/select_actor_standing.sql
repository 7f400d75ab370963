SELECT
    (SELECT rev FROM stratos_sync_cursor WHERE did = %(did)s),
    (SELECT error FROM stratos_blocked_actor WHERE did = %(did)s),
    EXISTS (SELECT FROM stratos_enrollment WHERE did = %(did)s),
    -- Boundaries that nobody vouches for are asked for before use: whatever they say grants nothing.
    (SELECT boundaries FROM stratos_enrollment WHERE did = %(did)s AND "lastChecked" <> '')
