DELETE FROM stratos_blocked_actor WHERE did = %(did)s AND id = %(id)s
