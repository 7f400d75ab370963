-- The rev of the first commit that a key signed; '' for the keys of before: of their accounts there is no older one.
ALTER TABLE signing_key ADD COLUMN firstRev TEXT NOT NULL DEFAULT '';
