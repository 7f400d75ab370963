DELETE FROM stratos_post_boundary WHERE creator = %(did)s OR (uri >= %(first_uri)s AND uri < %(end_uri)s)
