"""The SQLite twin: one service database and one database per actor."""
