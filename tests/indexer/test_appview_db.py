"""The AppView's database: schema, migrations, and which faults mean that it is away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from stratos.indexer.appview_db import (
    AppViewDatabase,
    AppViewDbConfig,
    DatabaseUnavailable,
    InvalidSchemaName,
    SchemaTooNew,
    describe_refusal,
    is_outage,
)
from stratos.indexer.appview_sql import AppViewSql, InvalidSqlFiles
from stratos.resources import sql_directory
from tests.indexer.rows import rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["", "a1", "a-b", 'a"b', "a b", "a.b", "é", "a" * 64])
def test_a_schema_name_has_letters_and_underscores_only(name: str) -> None:
    with pytest.raises(InvalidSchemaName):
        AppViewDbConfig(url="", schema=name)


def test_the_contract_tables_have_the_contract_columns(appview_db: AppViewDatabase, postgres_schema: str) -> None:
    with appview_db.transaction() as connection:
        found = connection.execute(
            "SELECT table_name::text, array_agg(column_name::text ORDER BY ordinal_position) FROM information_schema.columns"
            " WHERE table_schema = %s GROUP BY table_name",
            (postgres_schema,),
        ).fetchall()
    tables = dict(found)
    assert tables["stratos_post"] == [
        "uri", "cid", "rkey", "creator", "text", "replyRoot", "replyRootCid", "replyParent", "replyParentCid", "embed", "facets",
        "langs", "labels", "tags", "createdAt", "indexedAt", "sortAt",
    ]  # fmt: skip
    assert tables["stratos_post_boundary"][:2] == ["uri", "boundary"]
    assert tables["stratos_enrollment"] == ["did", "serviceUrl", "enrolledAt", "lastChecked", "boundaries"]
    assert tables["stratos_sync_cursor"][:3] == ["did", "seq", "updatedAt"]
    assert {"actor", "stratos_stream_cursor", "stratos_blocked_actor"} <= tables.keys()


def test_migrating_again_changes_nothing(appview_db: AppViewDatabase) -> None:
    before = rows(appview_db, "SELECT * FROM stratos_appview_migration")
    appview_db.migrate(NOW)
    assert rows(appview_db, "SELECT * FROM stratos_appview_migration") == before
    assert [number for number, *_ in before] == list(range(1, len(before) + 1))


def test_several_processes_may_migrate_at_once(appview_db_config: AppViewDbConfig, appview_sql: AppViewSql) -> None:
    databases = [AppViewDatabase(appview_db_config, appview_sql) for _ in range(4)]
    for database in databases:
        database.open()
    try:
        with ThreadPoolExecutor(4) as threads:
            versions = list(threads.map(lambda database: database.migrate(NOW), databases))
        assert versions == [len(appview_sql.migrations)] * 4
    finally:
        for database in databases:
            database.close()


def test_a_database_of_a_later_version_is_left_alone(appview_db: AppViewDatabase) -> None:
    with appview_db.transaction() as connection:
        connection.execute("INSERT INTO stratos_appview_migration VALUES (9999, 'later', '')")
    with pytest.raises(SchemaTooNew):
        appview_db.migrate(NOW)


def test_an_upstream_actor_table_is_kept(
    postgres_url: str, postgres_schema: str, appview_db_config: AppViewDbConfig, appview_sql: AppViewSql
) -> None:
    schema = sql.Identifier(postgres_schema)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        connection.execute(
            sql.SQL('CREATE TABLE {}.actor (did varchar PRIMARY KEY, handle varchar UNIQUE, "takedownRef" varchar)').format(
                schema
            )
        )
        connection.execute(sql.SQL("INSERT INTO {}.actor VALUES ('did:plc:x', 'x.test', NULL)").format(schema))
    database = AppViewDatabase(appview_db_config, appview_sql)
    database.open()
    try:
        database.migrate(NOW)
        assert rows(database, "SELECT did, handle FROM actor") == [("did:plc:x", "x.test")]
    finally:
        database.close()


async def test_a_statement_that_takes_too_long_is_an_outage(appview_db_config: AppViewDbConfig, appview_sql: AppViewSql) -> None:
    database = AppViewDatabase(replace(appview_db_config, statement_timeout=0.05), appview_sql)
    database.open()
    try:
        with pytest.raises(DatabaseUnavailable):
            await database.run(lambda connection: connection.execute("SELECT pg_sleep(10)"))
        assert await database.reachable()
        assert database.statistics()["failures_total"] == 1
    finally:
        database.close()


async def test_nobody_listening_is_an_outage(appview_sql: AppViewSql, tmp_path: Path) -> None:
    config = AppViewDbConfig(url=f"postgresql:///postgres?host={tmp_path}", connect_timeout=0.2, checkout_timeout=0.2)
    database = AppViewDatabase(config, appview_sql)
    database.open()
    try:
        assert not await database.reachable()
        with pytest.raises(DatabaseUnavailable):
            await database.run(lambda connection: connection.execute("SELECT 1"))
    finally:
        database.close()


async def test_refused_data_is_not_an_outage(appview_db: AppViewDatabase) -> None:
    with pytest.raises(psycopg.DataError):
        await appview_db.run(lambda connection: connection.execute("SELECT %s::text", ("\0",)))
    with pytest.raises(psycopg.errors.NotNullViolation):
        await appview_db.run(lambda connection: connection.execute("INSERT INTO stratos_post (uri) VALUES (NULL)"))


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg.OperationalError("connection lost"), True),
        (psycopg.InterfaceError("closed"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.UndefinedTable(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.TooManyConnections(), True),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.errors.StringDataRightTruncation(), False),
        (psycopg.errors.UntranslatableCharacter(), False),
        (psycopg.DataError("NUL"), False),
        (ValueError(), False),
    ],
)
def test_faults_are_told_apart(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage


def test_a_refusal_is_described_without_the_row_that_it_is_about(appview_db: AppViewDatabase) -> None:
    with pytest.raises(psycopg.Error) as refused, appview_db.transaction() as connection:
        connection.execute("""SELECT '{"text": "for the writers", broken}'::json""")
    assert "for the writers" in str(refused.value)
    assert describe_refusal(refused.value) == "InvalidTextRepresentation: invalid input syntax for type json (22P02)"


def test_missing_or_misnumbered_files_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(InvalidSqlFiles):
        AppViewSql.load(tmp_path)
    folder = sql_directory() / "appview"
    (tmp_path / "queries").symlink_to(folder / "queries")
    (tmp_path / "migrations").mkdir()
    with pytest.raises(InvalidSqlFiles, match="no migrations"):
        AppViewSql.load(tmp_path)
    (tmp_path / "migrations" / "0002_second.sql").write_text("SELECT 1")
    with pytest.raises(InvalidSqlFiles, match="migration number 1"):
        AppViewSql.load(tmp_path)


def test_every_statement_file_is_used() -> None:
    files = {path.stem for path in (sql_directory() / "appview" / "queries").glob("*.sql")}
    assert files == set(AppViewSql.load(sql_directory() / "appview").queries.__dataclass_fields__)
