"""What is looked at before a PostgreSQL database is used, and what is said where it will not do. Source: service spec §8.3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stratos.storage.ports import StorageFault
from tests.storage.conftest import PostgresStorage

PASSWORD = "only-for-this-test"


@pytest.fixture
def role(postgres_database: str) -> Iterator[str]:
    """A user without any privilege, who may connect."""
    name = f"stratos_test_user_{os.getpid()}"
    with psycopg.connect(postgres_database, autocommit=True) as server:
        if server.info.parameter_status("is_superuser") != "on":
            pytest.skip("needs a server on which users may be made, as a superuser may")
        # A new database lets everybody use this schema.
        server.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), PASSWORD))
        try:
            yield name
        finally:
            server.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def grant(database: str, role: str, *privileges: str) -> None:
    """Give the user privileges; `{db}` stands for the database."""
    name = str(conninfo_to_dict(database)["dbname"])
    with psycopg.connect(database, autocommit=True) as server:
        for privilege in privileges:
            statement = f"GRANT {privilege.format(db=name)} TO {role}"
            server.execute(statement.encode())


def tables(database: str) -> int:
    """How many tables the database holds of ours."""
    with psycopg.connect(database) as server:
        row = server.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchone()
    return 0 if row is None else int(row[0])


def refusal(url: str) -> str:
    """Why a start is refused."""
    with closing(PostgresStorage(url)) as storage, pytest.raises(StorageFault) as refused:
        storage.open()
    return str(refused.value)


@pytest.mark.parametrize(
    ("privileges", "reason", "facts"),
    [
        (
            ["USAGE, CREATE ON SCHEMA public"],
            "missing CREATE on the database, for actors' schemas",
            "hasDatabaseCreate=false, hasSchemaUsage=true, hasSchemaCreate=true",
        ),
        (
            ["CREATE ON DATABASE {db}", "USAGE ON SCHEMA public"],
            "missing CREATE on the schema",
            "hasDatabaseCreate=true, hasSchemaUsage=true, hasSchemaCreate=false",
        ),
        (
            ["USAGE ON SCHEMA public"],
            "missing CREATE on the database, for actors' schemas; missing CREATE on the schema",
            "hasDatabaseCreate=false, hasSchemaUsage=true, hasSchemaCreate=false",
        ),
        (
            ["CREATE ON DATABASE {db}"],
            "no schema of the search path exists",
            "hasDatabaseCreate=true, hasSchemaUsage=false, hasSchemaCreate=false",
        ),
    ],
)
def test_a_user_without_the_privileges_is_told_which_and_nothing_is_made(
    postgres_database: str, role: str, privileges: list[str], reason: str, facts: str
) -> None:
    grant(postgres_database, role, *privileges)
    said = refusal(make_conninfo(postgres_database, user=role, password=PASSWORD))
    assert said.startswith(f"PostgreSQL startup preflight failed: {reason}. database=stratos_test_"), said
    assert f"user={role}, schema=" in said
    assert said.endswith(facts), said
    assert PASSWORD not in said
    assert tables(postgres_database) == 0


def test_the_privileges_that_are_asked_for_are_enough(postgres_database: str, role: str) -> None:
    grant(postgres_database, role, "CREATE ON DATABASE {db}", "USAGE, CREATE ON SCHEMA public")
    with closing(PostgresStorage(make_conninfo(postgres_database, user=role, password=PASSWORD))) as storage:
        storage.open()
    assert tables(postgres_database) > 0


def test_a_search_path_without_a_schema_is_refused(postgres_database: str) -> None:
    said = refusal(make_conninfo(postgres_database, options="-c search_path=nowhere"))
    assert said.startswith("PostgreSQL startup preflight failed: no schema of the search path exists. "), said
    assert "schema=None, search_path=nowhere, " in said
    assert tables(postgres_database) == 0
