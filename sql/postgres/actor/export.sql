-- name: commit_block
SELECT cid, content FROM {actor}.stratos_repo_block WHERE cid = %s AND "repoRev" > %s;

-- name: other_blocks
SELECT cid, content FROM {actor}.stratos_repo_block WHERE cid <> %s AND "repoRev" > %s ORDER BY "repoRev";
