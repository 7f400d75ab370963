-- Posts with their boundaries, whose old ones are deleted before. A fresh post brings its own "createdAt"; an update keeps the
-- stored one.
WITH new AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS row (
        uri text, cid text, rkey text, creator text, text text, reply_root text, reply_root_cid text, reply_parent text,
        reply_parent_cid text, embed text, facets text, langs text, labels text, tags text, created_at text, indexed_at text,
        boundaries json, fresh boolean
    )
),
written AS (
    INSERT INTO stratos_post (
        uri, cid, rkey, creator, text, "replyRoot", "replyRootCid", "replyParent", "replyParentCid",
        embed, facets, langs, labels, tags, "createdAt", "indexedAt"
    )
    SELECT
        new.uri, new.cid, new.rkey, new.creator, new.text, new.reply_root, new.reply_root_cid, new.reply_parent,
        new.reply_parent_cid, new.embed, new.facets, new.langs, new.labels, new.tags,
        coalesce(standing."createdAt", new.created_at), new.indexed_at
    FROM new
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
    RETURNING uri, creator, "sortAt"
)
INSERT INTO stratos_post_boundary (uri, boundary, creator, "sortAt")
SELECT written.uri, listed.boundary, written.creator, written."sortAt"
FROM written
JOIN new ON new.uri = written.uri
CROSS JOIN LATERAL json_array_elements_text(new.boundaries) AS listed (boundary)
