-- Blocked actors stay as they are, but for what passed them by. Ascending, so that two writers never wait for each other.
INSERT INTO stratos_blocked_actor (did, seq, rev, error, "blockedAt", "nextAttempt")
SELECT new.did, new.seq, new.rev, coalesce(new.error, 'events passed by while the actor was fetched'), %(now)s, %(now)s
FROM unnest(%(did)s::text[], %(seq)s::bigint[], %(rev)s::text[], %(error)s::text[]) AS new (did, seq, rev, error)
ORDER BY new.did
ON CONFLICT (did) DO UPDATE SET
    seq = greatest(stratos_blocked_actor.seq, excluded.seq),
    rev = greatest(stratos_blocked_actor.rev, excluded.rev)
