-- Pages of the log. Each ends before the entry that would take it past the given bytes of frames; at least one entry is in it.

-- name: page
SELECT seq, did, kind, views, frame
FROM (
    SELECT seq, did, kind, views, frame, sum(length(frame)) OVER (ORDER BY seq) AS total, row_number() OVER (ORDER BY seq) AS place
    FROM (
        SELECT * FROM log
        WHERE seq > %(cursor)s
        ORDER BY seq
        LIMIT %(limit)s
    ) AS next
) AS counted
WHERE place = 1 OR total <= %(max_bytes)s
ORDER BY seq;

-- name: page_of_kind
SELECT seq, did, kind, views, frame
FROM (
    SELECT seq, did, kind, views, frame, sum(length(frame)) OVER (ORDER BY seq) AS total, row_number() OVER (ORDER BY seq) AS place
    FROM (
        SELECT * FROM log
        WHERE seq > %(cursor)s AND kind = %(kind)s
        ORDER BY seq
        LIMIT %(limit)s
    ) AS next
) AS counted
WHERE place = 1 OR total <= %(max_bytes)s
ORDER BY seq;

-- name: page_of_actor
SELECT seq, did, kind, views, frame
FROM (
    SELECT seq, did, kind, views, frame, sum(length(frame)) OVER (ORDER BY seq) AS total, row_number() OVER (ORDER BY seq) AS place
    FROM (
        SELECT * FROM log
        WHERE did = %(did)s AND seq > %(cursor)s AND (%(kind)s::smallint IS NULL OR kind = %(kind)s)
        ORDER BY seq
        LIMIT %(limit)s
    ) AS next
) AS counted
WHERE place = 1 OR total <= %(max_bytes)s
ORDER BY seq;

-- name: trimmed
SELECT value FROM meta WHERE name = 'trimmed_seq';

-- name: actor_trimmed
SELECT "trimmedSeq" FROM repo_head WHERE did = %s;

-- name: repo_head
SELECT h.did, h."commitCid", h.rev, h.seq, coalesce(e.active, 'false')
FROM repo_head AS h
LEFT JOIN enrollment AS e ON e.did = h.did
WHERE h.did = %s AND h."commitCid" IS NOT NULL;

-- name: repo_heads
SELECT h.did, h."commitCid", h.rev, h.seq, coalesce(e.active, 'false')
FROM repo_head AS h
LEFT JOIN enrollment AS e ON e.did = h.did
WHERE h.did > %s AND h."commitCid" IS NOT NULL
ORDER BY h.did
LIMIT %s;
