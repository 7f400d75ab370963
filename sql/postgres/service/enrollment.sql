-- name: put
INSERT INTO enrollment (did, "enrolledAt", "pdsEndpoint", "signingKeyDid", active, "enrollmentRkey")
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (did) DO UPDATE SET
    "enrolledAt" = excluded."enrolledAt",
    "pdsEndpoint" = excluded."pdsEndpoint",
    "signingKeyDid" = excluded."signingKeyDid",
    active = excluded.active,
    "enrollmentRkey" = excluded."enrollmentRkey";

-- name: delete_boundaries
DELETE FROM enrollment_boundary WHERE did = %s;

-- name: put_boundaries
INSERT INTO enrollment_boundary (did, boundary) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING;

-- name: retire_key
-- A retired key signs nothing any more: all that is left of it is its name.
UPDATE signing_key SET retired = %s, sealed = '' WHERE did = %s AND retired IS NULL;

-- name: put_key
-- Also for the key that was retired a moment ago, sealed anew.
INSERT INTO signing_key (did, "signingKeyDid", sealed, created, "firstRev") VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (did, "signingKeyDid") DO UPDATE SET sealed = excluded.sealed, retired = NULL;

-- name: get
SELECT e.did, e."enrolledAt", e."pdsEndpoint", e."signingKeyDid", e.active, e."enrollmentRkey",
    ARRAY(SELECT boundary FROM enrollment_boundary WHERE did = e.did ORDER BY boundary),
    (SELECT sealed FROM signing_key WHERE did = e.did AND retired IS NULL)
FROM enrollment AS e
WHERE e.did = %s;

-- name: page
SELECT e.did, e."enrolledAt", e."pdsEndpoint", e."signingKeyDid", e.active, e."enrollmentRkey",
    ARRAY(SELECT boundary FROM enrollment_boundary WHERE did = e.did ORDER BY boundary),
    NULL::bytea
FROM enrollment AS e
WHERE e.did > %s AND e.active IN ('true', %s)
ORDER BY e.did
LIMIT %s;

-- name: keys
SELECT "signingKeyDid", "firstRev", created, retired FROM signing_key WHERE did = %s ORDER BY "firstRev";

-- name: count_active
SELECT count(*) FROM enrollment WHERE active = 'true';
