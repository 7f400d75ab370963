"""PostgreSQL: the twin for several service processes on one database."""
