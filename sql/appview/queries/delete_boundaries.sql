DELETE FROM stratos_post_boundary WHERE uri = ANY (%(uris)s)
