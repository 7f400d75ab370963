DELETE FROM stratos_post WHERE uri = ANY (%(uris)s)
