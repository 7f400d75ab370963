-- The effects of one commit, in the order in which they run. {actor} stands for the actor's schema; the texts differ by it, and are
-- prepared for those actors that are asked for again and again.

-- name: delete_backlinks
DELETE FROM {actor}.stratos_backlink AS b
USING unnest(%s::text[], %s::text[]) AS gone (collection, rkey)
WHERE b.collection = gone.collection AND b.rkey = gone.rkey;

-- name: delete_records
DELETE FROM {actor}.stratos_record AS r
USING unnest(%s::text[], %s::text[]) AS gone (collection, rkey)
WHERE r.collection = gone.collection AND r.rkey = gone.rkey;

-- name: put
-- What nearly every commit does, at once, since each statement costs as much as its work: new blocks, the records that they hold,
-- the nodes and the commit that they supersede, which are others, and the root.
-- A block that is referenced anew counts as new, so that an export `since` a rev holds every block its changes refer to.
WITH put_blocks AS (
    INSERT INTO {actor}.stratos_repo_block (cid, "repoRev", size, content)
    SELECT new.cid, %(rev)s, length(new.content), new.content
    FROM unnest(%(blocks)s::bytea[], %(contents)s::bytea[]) AS new (cid, content)
    ON CONFLICT (cid) DO UPDATE SET "repoRev" = excluded."repoRev"
),
put_records AS (
    INSERT INTO {actor}.stratos_record (collection, rkey, cid, "repoRev", "indexedAt")
    SELECT new.collection, new.rkey, new.cid, %(rev)s, %(time)s
    FROM unnest(%(collections)s::text[], %(rkeys)s::text[], %(records)s::bytea[]) AS new (collection, rkey, cid)
    ON CONFLICT (collection, rkey) DO UPDATE SET
        cid = excluded.cid, "repoRev" = excluded."repoRev", "indexedAt" = excluded."indexedAt"
),
delete_blocks AS (
    DELETE FROM {actor}.stratos_repo_block WHERE cid = ANY (%(removed)s)
)
INSERT INTO {actor}.stratos_repo_root (did, cid, rev, seq, "indexedAt") VALUES (%(did)s, %(commit)s, %(rev)s, %(seq)s, %(time)s)
ON CONFLICT (did) DO UPDATE SET cid = excluded.cid, rev = excluded.rev, seq = excluded.seq, "indexedAt" = excluded."indexedAt";

-- name: put_backlinks
INSERT INTO {actor}.stratos_backlink (collection, rkey, path, "linkTo")
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING;

-- name: delete_superseded
DELETE FROM {actor}.stratos_repo_block AS b
WHERE b.cid = ANY (%s) AND NOT EXISTS (SELECT 1 FROM {actor}.stratos_record AS r WHERE r.cid = b.cid);
