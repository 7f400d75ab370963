-- name: get
SELECT seq FROM consumer_cursor WHERE consumer = ?;

-- name: save
INSERT INTO consumer_cursor (consumer, seq) VALUES (?, ?)
ON CONFLICT (consumer) DO UPDATE SET seq = max(seq, excluded.seq);
