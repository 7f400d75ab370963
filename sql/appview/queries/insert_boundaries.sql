INSERT INTO stratos_post_boundary (uri, boundary, creator, "sortAt")
SELECT new.uri, new.boundary, post.creator, post."sortAt"
FROM unnest(%(uris)s::text[], %(boundaries)s::text[]) AS new (uri, boundary)
JOIN stratos_post AS post ON post.uri = new.uri
