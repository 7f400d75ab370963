"""What the end-to-end tests get beside their programs: a real PostgreSQL."""

from tests.postgres import appview_db, appview_db_config, appview_sql, postgres_schema, postgres_url

__all__ = ["appview_db", "appview_db_config", "appview_sql", "postgres_schema", "postgres_url"]
