-- Whatever is the actor's by its creator or by its URI, which must agree; an own URI alone says whose a post is.
SELECT
    post.uri, post.cid, post.rkey, post.creator, post.text, post."replyRoot", post."replyRootCid", post."replyParent",
    post."replyParentCid", post.embed, post.facets, post.langs, post.labels, post.tags,
    ARRAY(SELECT held.boundary FROM stratos_post_boundary AS held WHERE held.uri = post.uri ORDER BY held.boundary) AS boundaries,
    EXISTS (
        SELECT FROM stratos_post_boundary AS held
        WHERE held.uri = post.uri AND (held.creator <> post.creator OR held."sortAt" <> post."sortAt")
    ) AS askew
FROM stratos_post AS post
WHERE post.creator = %(did)s OR (post.uri >= %(first_uri)s AND post.uri < %(end_uri)s)
ORDER BY post.uri
