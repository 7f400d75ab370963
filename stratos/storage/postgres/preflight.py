"""What must be true of the database before anything is done with it. Source: service spec §8.3."""

from __future__ import annotations

import logging
from typing import Final

from stratos.storage.ports import StorageFault
from stratos.storage.postgres.database import PgConnection

_QUERY: Final = """
SELECT current_database(), current_user, current_schema(), current_setting('search_path'),
    has_database_privilege(current_database(), 'CREATE'),
    coalesce(has_schema_privilege(current_schema(), 'USAGE'), false),
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    pg_is_in_recovery()
"""

_log = logging.getLogger(__name__)


def check_database(connection: PgConnection) -> str:
    """Log and tell what we are connected to. Raises StorageFault where a privilege is missing, and psycopg.Error."""
    row = connection.execute(_QUERY).fetchone()
    if row is None:
        raise StorageFault("PostgreSQL startup preflight failed: the server answers nothing")
    database, user, schema, search_path, may_create, may_use, may_add, is_standby = row
    reasons = [
        reason
        for reason, holds in (
            ("no schema of the search path exists", schema is not None),
            ("missing CREATE on the database, for actors' schemas", may_create),
            ("missing USAGE on the schema", may_use or schema is None),
            ("missing CREATE on the schema", may_add or schema is None),
            ("the server is a standby and takes no writes", not is_standby),
        )
        if not holds
    ]
    facts = (
        f"database={database}, user={user}, schema={schema}, search_path={search_path}, "
        f"hasDatabaseCreate={_yes(may_create)}, hasSchemaUsage={_yes(may_use)}, hasSchemaCreate={_yes(may_add)}"
    )
    if reasons:
        raise StorageFault(f"PostgreSQL startup preflight failed: {'; '.join(reasons)}. {facts}")
    _log.info("PostgreSQL startup preflight passed: %s", facts)
    return facts


def _yes(value: object) -> str:
    return "true" if value else "false"
