SELECT uri, creator, cid, "indexedAt"
FROM stratos_post
WHERE creator = %(did)s OR (uri >= %(first_uri)s AND uri < %(end_uri)s)
