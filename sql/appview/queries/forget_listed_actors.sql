DELETE FROM stratos_listed_actor WHERE source = %(source)s
