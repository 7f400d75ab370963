-- Only if no further wish came up while the actors were compared.
UPDATE stratos_stream_cursor
SET "reconcileWanted" = 0, "updatedAt" = %(now)s
WHERE source = %(source)s AND "reconcileWanted" = %(wishes)s
