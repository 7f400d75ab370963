SELECT creator, count(*) FROM stratos_post WHERE creator = ANY (%(dids)s) GROUP BY creator
