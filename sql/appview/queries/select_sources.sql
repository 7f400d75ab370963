SELECT source, seq, "updatedAt", "reconcileWanted" FROM stratos_stream_cursor ORDER BY source
