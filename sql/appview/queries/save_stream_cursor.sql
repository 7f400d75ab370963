UPDATE stratos_stream_cursor
SET seq = greatest(seq, %(seq)s), "updatedAt" = %(now)s, "reconcileWanted" = "reconcileWanted" + %(reconcile)s
WHERE source = %(source)s
