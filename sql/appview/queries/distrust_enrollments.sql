UPDATE stratos_enrollment SET "lastChecked" = '' WHERE %(everybody)s OR did = ANY (%(dids)s)
