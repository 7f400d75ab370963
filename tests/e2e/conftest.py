"""What the end-to-end tests get beside their programs: a real PostgreSQL, and a real PDS and PLC directory."""

from tests.e2e.network import pds_network
from tests.postgres import (
    appview_db,
    appview_db_config,
    appview_sql,
    postgres_database,
    postgres_schema,
    postgres_url,
    service_database,
)
from tests.storage.conftest import postgres_storage, sqlite_storage, storage

__all__ = [
    "appview_db",
    "appview_db_config",
    "appview_sql",
    "pds_network",
    "postgres_database",
    "postgres_schema",
    "postgres_storage",
    "postgres_url",
    "service_database",
    "sqlite_storage",
    "storage",
]
