-- name: commit_block
SELECT cid, content FROM stratos_repo_block WHERE cid = ? AND repoRev > ?;

-- name: other_blocks
SELECT cid, content FROM stratos_repo_block WHERE cid <> ? AND repoRev > ? ORDER BY repoRev;
