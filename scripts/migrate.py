"""Apply `migrations/` to the database in DATABASE_URL: `python -m scripts.migrate`.

What was applied is recorded where the Supabase CLI records it (`supabase_migrations.schema_migrations`), so that both
may be used on the same project.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg

MIGRATIONS = Path(__file__).parent.parent / "migrations"

#: Two deploys wait for each other; any number that nobody else uses.
ADVISORY_LOCK = 7_348_913_001


def migration_files() -> list[Path]:
    """All migrations, oldest first; names are `<timestamp>_<name>.sql`."""
    return sorted(MIGRATIONS.glob("[0-9]*_*.sql"))


def migrate(database_url: str) -> list[str]:
    """Apply what is missing, each file in a transaction of its own; returns the versions applied now.

    The version row is inserted first, in the same transaction: two runners cannot both apply a file.
    """
    applied = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
        connection.execute("create schema if not exists supabase_migrations")
        connection.execute(
            "create table if not exists supabase_migrations.schema_migrations "
            "(version text primary key, statements text[], name text)"
        )
        for file in migration_files():
            version, _, name = file.stem.partition("_")
            with connection.transaction():
                inserted = connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, name) values (%s, %s) "
                    "on conflict do nothing",
                    [version, name],
                ).rowcount
                if inserted:
                    connection.execute(file.read_bytes())
                    applied.append(version)
    return applied


def main() -> None:
    database_url = os.environ.get("DATABASE_URL")
    if not database_url:
        sys.exit("DATABASE_URL is missing: the address of the project's Postgres, as role postgres.")
    try:
        applied = migrate(database_url)
    except psycopg.Error as error:
        sys.exit(f"The migrations could not be applied: {str(error).splitlines()[0]}")
    print(f"{len(applied)} migrations applied." if applied else "Nothing to apply.")


if __name__ == "__main__":
    main()
