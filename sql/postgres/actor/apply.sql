-- The effects of one commit, in the order in which they run. {actor} stands for the actor's schema.

-- name: put_blocks
-- A block that is referenced anew counts as new, so that an export `since` a rev holds every block its changes refer to.
INSERT INTO {actor}.stratos_repo_block (cid, "repoRev", size, content)
SELECT new.cid, %s, length(new.content), new.content FROM unnest(%s::bytea[], %s::bytea[]) AS new (cid, content)
ON CONFLICT (cid) DO UPDATE SET "repoRev" = excluded."repoRev";

-- name: delete_backlinks
DELETE FROM {actor}.stratos_backlink AS b
USING unnest(%s::text[], %s::text[]) AS gone (collection, rkey)
WHERE b.collection = gone.collection AND b.rkey = gone.rkey;

-- name: delete_records
DELETE FROM {actor}.stratos_record AS r
USING unnest(%s::text[], %s::text[]) AS gone (collection, rkey)
WHERE r.collection = gone.collection AND r.rkey = gone.rkey;

-- name: put_records
INSERT INTO {actor}.stratos_record (collection, rkey, cid, "repoRev", "indexedAt")
SELECT new.collection, new.rkey, new.cid, %s, %s
FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS new (collection, rkey, cid)
ON CONFLICT (collection, rkey) DO UPDATE SET
    cid = excluded.cid, "repoRev" = excluded."repoRev", "indexedAt" = excluded."indexedAt";

-- name: put_backlinks
INSERT INTO {actor}.stratos_backlink (collection, rkey, path, "linkTo")
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING;

-- name: delete_blocks
DELETE FROM {actor}.stratos_repo_block WHERE cid = ANY (%s);

-- name: delete_superseded
DELETE FROM {actor}.stratos_repo_block AS b
WHERE b.cid = ANY (%s) AND NOT EXISTS (SELECT 1 FROM {actor}.stratos_record AS r WHERE r.cid = b.cid);

-- name: put_root
INSERT INTO {actor}.stratos_repo_root (did, cid, rev, seq, "indexedAt") VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (did) DO UPDATE SET cid = excluded.cid, rev = excluded.rev, seq = excluded.seq, "indexedAt" = excluded."indexedAt";
