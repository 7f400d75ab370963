INSERT INTO stratos_listed_actor (source, did, rev)
SELECT %(source)s, new.did, new.rev
FROM unnest(%(did)s::text[], %(rev)s::text[]) AS new (did, rev)
ON CONFLICT (source, did) DO UPDATE SET rev = excluded.rev
