SELECT did FROM actor WHERE handle = %(handle)s
