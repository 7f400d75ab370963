-- Only if nobody wrote in between: an answer of the service must not overwrite what the stream has said since it was asked.
UPDATE stratos_enrollment
SET boundaries = %(boundaries)s, "lastChecked" = %(now)s
WHERE did = %(did)s AND "lastChecked" = %(seen)s AND boundaries IS NOT DISTINCT FROM %(seen_boundaries)s
