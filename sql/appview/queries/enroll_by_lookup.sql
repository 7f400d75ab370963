INSERT INTO stratos_enrollment (did, "serviceUrl", "enrolledAt", "lastChecked", boundaries)
VALUES (%(did)s, %(service_url)s, %(now)s, %(now)s, %(boundaries)s)
ON CONFLICT (did) DO NOTHING
