-- name: put
INSERT INTO enrollment (did, enrolledAt, pdsEndpoint, signingKeyDid, active, enrollmentRkey) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (did) DO UPDATE SET
    enrolledAt = excluded.enrolledAt,
    pdsEndpoint = excluded.pdsEndpoint,
    signingKeyDid = excluded.signingKeyDid,
    active = excluded.active,
    enrollmentRkey = excluded.enrollmentRkey;

-- name: delete_boundaries
DELETE FROM enrollment_boundary WHERE did = ?;

-- name: put_boundary
INSERT INTO enrollment_boundary (did, boundary) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: retire_key
-- A retired key signs nothing any more: all that is left of it is its name.
UPDATE signing_key SET retired = ?, sealed = x'' WHERE did = ? AND retired IS NULL;

-- name: put_key
-- Also for the key that was retired a moment ago, sealed anew.
INSERT INTO signing_key (did, signingKeyDid, sealed, created, firstRev) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (did, signingKeyDid) DO UPDATE SET sealed = excluded.sealed, retired = NULL;

-- name: get
SELECT e.did, e.enrolledAt, e.pdsEndpoint, e.signingKeyDid, e.active, e.enrollmentRkey,
    (SELECT json_group_array(b.boundary)
     FROM (SELECT boundary FROM enrollment_boundary WHERE did = e.did ORDER BY boundary) AS b)
FROM enrollment AS e
WHERE e.did = ?;

-- name: page
SELECT e.did, e.enrolledAt, e.pdsEndpoint, e.signingKeyDid, e.active, e.enrollmentRkey,
    (SELECT json_group_array(b.boundary)
     FROM (SELECT boundary FROM enrollment_boundary WHERE did = e.did ORDER BY boundary) AS b)
FROM enrollment AS e
WHERE e.did > ? AND e.active IN ('true', ?)
ORDER BY e.did
LIMIT ?;

-- name: count_active
SELECT count(*) FROM enrollment WHERE active = 'true';

-- name: keys
SELECT signingKeyDid, firstRev, created, retired FROM signing_key WHERE did = ? ORDER BY firstRev;

-- name: current_key
SELECT sealed FROM signing_key WHERE did = ? AND retired IS NULL;
