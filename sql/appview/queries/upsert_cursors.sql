INSERT INTO stratos_sync_cursor (did, seq, "updatedAt", rev)
SELECT new.did, new.seq, %(now)s, new.rev
FROM json_to_recordset(%(rows)s::json) AS new (did text, seq bigint, rev text)
ON CONFLICT (did) DO UPDATE SET
    seq = greatest(stratos_sync_cursor.seq, excluded.seq),
    "updatedAt" = excluded."updatedAt",
    rev = excluded.rev
