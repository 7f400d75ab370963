SELECT wanted.did, coalesce(cursor.seq, 0), cursor.rev, blocked.did IS NOT NULL
FROM unnest(%(dids)s::text[]) AS wanted (did)
LEFT JOIN stratos_sync_cursor AS cursor ON cursor.did = wanted.did
LEFT JOIN stratos_blocked_actor AS blocked ON blocked.did = wanted.did
WHERE cursor.did IS NOT NULL OR blocked.did IS NOT NULL
