SELECT seq, rev FROM stratos_blocked_actor WHERE did = %(did)s AND id = %(id)s FOR UPDATE
