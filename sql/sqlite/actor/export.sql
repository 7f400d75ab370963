-- name: commit_block
SELECT content FROM stratos_repo_block WHERE cid = ? AND repoRev > ?;

-- name: page
-- Blocks after a position in (repoRev, rowid) order; the commit block was sent before.
SELECT repoRev, rowid, cid, content
FROM stratos_repo_block
WHERE (repoRev, rowid) > (?, ?) AND cid <> ?
ORDER BY repoRev, rowid
LIMIT ?;
