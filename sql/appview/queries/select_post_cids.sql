SELECT uri, cid, "indexedAt" FROM stratos_post WHERE creator = %(did)s
