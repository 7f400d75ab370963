"""The indexer and the AppView's queries: stream client, projector, resync, feeds."""
