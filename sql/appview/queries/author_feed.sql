-- As timeline.sql, of one creator.
SELECT
    post.uri, post.cid, post.creator, actor.handle, post.text, post."replyRoot", post."replyRootCid", post."replyParent",
    post."replyParentCid", post.embed, post.facets, post.langs, post.tags, post."createdAt", post."indexedAt", post."sortAt",
    ARRAY(SELECT held.boundary FROM stratos_post_boundary AS held WHERE held.uri = page.uri ORDER BY held.boundary) AS boundaries
FROM (
    SELECT DISTINCT newest."sortAt", newest.uri
    FROM unnest(%(boundaries)s::text[]) AS wanted (boundary)
    CROSS JOIN LATERAL (
        SELECT listed."sortAt", listed.uri
        FROM stratos_post_boundary AS listed
        WHERE
            listed.creator = %(creator)s
            AND listed.boundary = wanted.boundary
            AND (listed."sortAt", listed.uri) < (%(sort_at)s, %(uri)s)
        ORDER BY listed."sortAt" DESC, listed.uri DESC
        LIMIT %(limit)s
    ) AS newest
    ORDER BY newest."sortAt" DESC, newest.uri DESC
    LIMIT %(limit)s
) AS page
JOIN stratos_post AS post ON post.uri = page.uri
LEFT JOIN actor ON actor.did = post.creator
ORDER BY page."sortAt" DESC, page.uri DESC
