SELECT
    (SELECT count(*) FROM stratos_post),
    (SELECT count(*) FROM stratos_post_boundary),
    coalesce(
        (
            SELECT json_agg(json_build_object('did', shown.did, 'boundaries', shown.boundaries::json) ORDER BY shown.did)
            FROM (SELECT did, boundaries FROM stratos_enrollment ORDER BY did LIMIT %(limit)s) AS shown
        ),
        '[]'
    ),
    coalesce(
        (
            SELECT json_agg(json_build_object('did', shown.did, 'seq', shown.seq) ORDER BY shown.did)
            FROM (SELECT did, seq FROM stratos_sync_cursor ORDER BY did LIMIT %(limit)s) AS shown
        ),
        '[]'
    ),
    EXISTS (SELECT FROM stratos_stream_cursor)
