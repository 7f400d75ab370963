-- name: last_seq
SELECT value FROM meta WHERE name = 'last_seq';

-- name: head
-- What the log knows of a DID at this point of the batch. Always one row.
SELECT h.commitCid, h.rev, h.seq, coalesce(e.active = 'true', 0), e.signingKeyDid
FROM (SELECT ?1 AS did) AS asked
LEFT JOIN repo_head AS h ON h.did = asked.did
LEFT JOIN enrollment AS e ON e.did = asked.did;

-- name: insert_entry
INSERT INTO log (seq, did, kind, rev, time, views, frame, redo) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_head
INSERT INTO repo_head (did, commitCid, rev, seq) VALUES (?, ?, ?, ?)
ON CONFLICT (did) DO UPDATE SET commitCid = excluded.commitCid, rev = excluded.rev, seq = excluded.seq;

-- name: put_last_seq
UPDATE meta SET value = ? WHERE name = 'last_seq';
