-- A fresh post brings its own "createdAt"; an update keeps the stored one.
INSERT INTO stratos_post (
    uri, cid, rkey, creator, text, "replyRoot", "replyRootCid", "replyParent", "replyParentCid",
    embed, facets, langs, labels, tags, "createdAt", "indexedAt"
)
SELECT
    new.uri, new.cid, new.rkey, new.creator, new.text, new.reply_root, new.reply_root_cid, new.reply_parent, new.reply_parent_cid,
    new.embed, new.facets, new.langs, new.labels, new.tags, coalesce(standing."createdAt", new.created_at), new.indexed_at
FROM unnest(
    %(uri)s::text[], %(cid)s::text[], %(rkey)s::text[], %(creator)s::text[], %(text)s::text[], %(reply_root)s::text[],
    %(reply_root_cid)s::text[], %(reply_parent)s::text[], %(reply_parent_cid)s::text[], %(embed)s::text[], %(facets)s::text[],
    %(langs)s::text[], %(labels)s::text[], %(tags)s::text[], %(created_at)s::text[], %(indexed_at)s::text[], %(fresh)s::boolean[]
) AS new (
    uri, cid, rkey, creator, text, reply_root, reply_root_cid, reply_parent, reply_parent_cid, embed, facets, langs, labels, tags,
    created_at, indexed_at, fresh
)
LEFT JOIN stratos_post AS standing ON NOT new.fresh AND standing.uri = new.uri
ON CONFLICT (uri) DO UPDATE SET
    cid = excluded.cid,
    text = excluded.text,
    "replyRoot" = excluded."replyRoot",
    "replyRootCid" = excluded."replyRootCid",
    "replyParent" = excluded."replyParent",
    "replyParentCid" = excluded."replyParentCid",
    embed = excluded.embed,
    facets = excluded.facets,
    langs = excluded.langs,
    labels = excluded.labels,
    tags = excluded.tags,
    "createdAt" = excluded."createdAt",
    "indexedAt" = excluded."indexedAt"
