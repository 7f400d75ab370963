-- The boundaries stay unknown here until they are asked for: only the stream and a fresh answer may grant access.
INSERT INTO stratos_enrollment (did, "serviceUrl", "enrolledAt")
VALUES (%(did)s, %(service_url)s, %(enrolled_at)s)
ON CONFLICT (did) DO NOTHING
