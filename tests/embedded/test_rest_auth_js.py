"""REST and Auth through supabase-js: the cases are in tests/js."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.embedded.rest_support import create
from tests.stack import RunningStack

NODE = Path(sys.executable).parent / "node"
PROGRAMS = Path(__file__).parents[1] / "js"

TABLES = """
create table js_notes (id int primary key, label text not null default 'none');
grant all on js_notes to service_role;
create function js_add(a int, b int) returns int language sql immutable as 'select a + b';
create function js_books() returns setof books language sql stable as 'select * from books';
"""


@pytest.fixture(scope="module")
def js_tables(library: RunningStack) -> RunningStack:
    create(library, TABLES)
    return library


@pytest.mark.parametrize("program", ["rest.mjs", "auth.mjs"])
async def test_supabase_js_is_satisfied(js_tables: RunningStack, program: str) -> None:
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--test",
        "--test-reporter=spec",
        PROGRAMS / program,
        env=js_tables.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
