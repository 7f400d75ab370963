SELECT boundaries, "lastChecked" FROM stratos_enrollment WHERE did = %(did)s
