INSERT INTO stratos_sync_cursor (did, seq, "updatedAt", rev)
SELECT new.did, new.seq, %(now)s, new.rev
FROM unnest(%(did)s::text[], %(seq)s::bigint[], %(rev)s::text[]) AS new (did, seq, rev)
ON CONFLICT (did) DO UPDATE SET
    seq = greatest(stratos_sync_cursor.seq, excluded.seq),
    "updatedAt" = excluded."updatedAt",
    rev = excluded.rev
