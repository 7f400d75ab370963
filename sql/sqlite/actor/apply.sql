-- The effects of one commit, in the order in which they run.

-- name: put_block
-- A block that is referenced anew counts as new, so that an export `since` a rev holds every block its changes refer to.
INSERT INTO stratos_repo_block (cid, repoRev, size, content) VALUES (?, ?, ?, ?)
ON CONFLICT (cid) DO UPDATE SET repoRev = excluded.repoRev;

-- name: delete_record
DELETE FROM stratos_record WHERE collection = ? AND rkey = ?;

-- name: put_record
INSERT INTO stratos_record (collection, rkey, cid, repoRev, indexedAt) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (collection, rkey) DO UPDATE SET cid = excluded.cid, repoRev = excluded.repoRev, indexedAt = excluded.indexedAt;

-- name: delete_backlinks
DELETE FROM stratos_backlink WHERE collection = ? AND rkey = ?;

-- name: put_backlink
INSERT INTO stratos_backlink (collection, rkey, path, linkTo) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: delete_block
DELETE FROM stratos_repo_block WHERE cid = ?;

-- name: delete_superseded
DELETE FROM stratos_repo_block WHERE cid = ?1 AND NOT EXISTS (SELECT 1 FROM stratos_record WHERE cid = ?1);

-- name: put_root
INSERT INTO stratos_repo_root (did, cid, rev, seq, indexedAt) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (did) DO UPDATE SET cid = excluded.cid, rev = excluded.rev, seq = excluded.seq, indexedAt = excluded.indexedAt;
