-- name: get
SELECT seq FROM consumer_cursor WHERE consumer = %s;

-- name: save
INSERT INTO consumer_cursor AS c (consumer, seq) VALUES (%s, %s)
ON CONFLICT (consumer) DO UPDATE SET seq = greatest(c.seq, excluded.seq);
