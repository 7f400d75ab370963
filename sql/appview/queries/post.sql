SELECT
    post.uri, post.cid, post.creator, actor.handle, post.text, post."replyRoot", post."replyRootCid", post."replyParent",
    post."replyParentCid", post.embed, post.facets, post.langs, post.tags, post."createdAt", post."indexedAt", post."sortAt",
    ARRAY(SELECT held.boundary FROM stratos_post_boundary AS held WHERE held.uri = post.uri ORDER BY held.boundary) AS boundaries
FROM stratos_post AS post
LEFT JOIN actor ON actor.did = post.creator
WHERE post.uri = %(uri)s
