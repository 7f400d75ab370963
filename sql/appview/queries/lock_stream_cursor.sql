-- Whoever blocks actors or moves the stream's position holds this lock, so that both see each other's work whole.
INSERT INTO stratos_stream_cursor (source, "updatedAt")
VALUES (%(source)s, %(now)s)
ON CONFLICT (source) DO UPDATE SET source = excluded.source
RETURNING seq, "reconcileWanted"
