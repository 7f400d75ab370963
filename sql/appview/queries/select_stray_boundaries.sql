SELECT DISTINCT held.uri
FROM stratos_post_boundary AS held
WHERE
    (held.creator = %(did)s OR (held.uri >= %(first_uri)s AND held.uri < %(end_uri)s))
    AND NOT EXISTS (SELECT FROM stratos_post AS post WHERE post.uri = held.uri)
ORDER BY held.uri
