INSERT INTO stratos_sync_cursor (did, seq, "updatedAt", rev)
VALUES (%(did)s, %(seq)s, %(now)s, %(rev)s)
ON CONFLICT (did) DO UPDATE SET
    seq = greatest(stratos_sync_cursor.seq, excluded.seq),
    "updatedAt" = excluded."updatedAt",
    rev = excluded.rev
