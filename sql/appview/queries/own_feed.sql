-- All posts of one creator, for that creator.
SELECT
    post.uri, post.cid, post.creator, actor.handle, post.text, post."replyRoot", post."replyRootCid", post."replyParent",
    post."replyParentCid", post.embed, post.facets, post.langs, post.tags, post."createdAt", post."indexedAt", post."sortAt",
    ARRAY(SELECT held.boundary FROM stratos_post_boundary AS held WHERE held.uri = post.uri ORDER BY held.boundary) AS boundaries
FROM (
    SELECT * FROM stratos_post AS listed
    WHERE listed.creator = %(creator)s AND (listed."sortAt", listed.uri) < (%(sort_at)s, %(uri)s)
    ORDER BY listed."sortAt" DESC, listed.uri DESC
    LIMIT %(limit)s
) AS post
LEFT JOIN actor ON actor.did = post.creator
ORDER BY post."sortAt" DESC, post.uri DESC
