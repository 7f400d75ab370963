INSERT INTO stratos_enrollment (did, "serviceUrl", "enrolledAt", "lastChecked", boundaries)
SELECT * FROM unnest(%(did)s::text[], %(service_url)s::text[], %(enrolled_at)s::text[], %(last_checked)s::text[], %(boundaries)s::text[])
ON CONFLICT (did) DO UPDATE SET
    "serviceUrl" = excluded."serviceUrl",
    "lastChecked" = excluded."lastChecked",
    boundaries = excluded.boundaries
