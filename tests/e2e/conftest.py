"""What the end-to-end tests get beside their programs: a real PostgreSQL, and a real PDS and PLC directory."""

from tests.e2e.network import pds_network
from tests.postgres import appview_db, appview_db_config, appview_sql, postgres_schema, postgres_url

__all__ = ["appview_db", "appview_db_config", "appview_sql", "pds_network", "postgres_schema", "postgres_url"]
