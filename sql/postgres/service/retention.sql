-- name: trim
-- Old entries that every consumer is past leave; the caller remembers up to where.
DELETE FROM log
WHERE seq IN (
    SELECT seq FROM log
    WHERE time < %s AND seq <= coalesce((SELECT min(seq) FROM consumer_cursor), 9223372036854775807)
    ORDER BY time, seq
    LIMIT %s
)
RETURNING seq, did;

-- name: mark_actors
INSERT INTO repo_head (did, "trimmedSeq")
SELECT * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT (did) DO UPDATE SET "trimmedSeq" = greatest(repo_head."trimmedSeq", excluded."trimmedSeq");

-- name: mark_all
UPDATE meta SET value = greatest(value, %s) WHERE name = 'trimmed_seq';
