"""Realtime as supabase-js sees it, which speaks version 2 of the protocol."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.realtime_support import create_table, postgres_of, topic_name, user_token
from tests.stack import RunningStack

JAVASCRIPT = Path(__file__).parent.parent / "js"
NODE = Path(sys.executable).parent / "node"


@pytest.mark.skipif(not (JAVASCRIPT / "node_modules").exists(), reason="`make test` installs supabase-js")
async def test_supabase_js_finds_everything_as_on_a_hosted_project(stack: RunningStack) -> None:
    ada, bob = str(uuid.uuid4()), str(uuid.uuid4())
    topic = topic_name()
    with postgres_of(stack, superuser=True) as postgres:
        postgres.execute("set role postgres")
        table = create_table(postgres, "id int primary key, owner uuid, tags text[], price numeric")
        postgres.execute(f"alter table {table} enable row level security")
        postgres.execute(f"create policy own on {table} for select to authenticated using (owner = auth.uid())")
        postgres.execute(
            f"create policy {table}_hear on realtime.messages for select to authenticated"
            f" using (realtime.topic() = '{topic}' and (select auth.uid()) = '{ada}')"
        )
        steps = {
            "change rows": f"insert into {table} values (1, '{ada}', array['a', 'b'], 1.5), (2, '{bob}', null, null);"
            f"update {table} set price = 2 where id = 1; delete from {table} where id = 1",
            "send from SQL": "select realtime.send('{\"n\": 2}', 'by sql', 'lobby', false)",
            "break the stream": "reset role; select pg_terminate_backend(pid) from pg_stat_activity"
            " where backend_type = 'walsender'; set role postgres",
            "insert again": f"insert into {table} values (9, '{bob}', null, null)",
        }
        environment = stack.environment() | {
            "USER_TOKEN": user_token(stack, ada),
            "OTHER_TOKEN": user_token(stack, bob),
            "TABLE": table,
            "TOPIC": topic,
        }
        process = await asyncio.create_subprocess_exec(
            NODE,
            "realtime.mjs",
            cwd=JAVASCRIPT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(60):
                async for line in process.stdout:
                    text = line.decode().strip()
                    if text.startswith("step: "):
                        for statement in steps[text.removeprefix("step: ")].split(";"):
                            postgres.execute(statement)
                        process.stdin.write(b"done\n")
                    elif text.startswith("{"):
                        seen = json.loads(text)
        finally:
            if process.returncode is None:
                process.kill()
            errors = (await process.stderr.read()).decode()
            await process.wait()
            postgres.execute(f"drop policy {table}_hear on realtime.messages")
    assert seen, errors

    first = {"id": 1, "owner": ada, "tags": ["a", "b"], "price": 1.5}
    second = {"id": 2, "owner": bob, "tags": None, "price": None}
    key = {"id": 1}
    told = {
        "insert 1": {"eventType": "INSERT", "new": first, "old": {}, "errors": None},
        "insert 2": {"eventType": "INSERT", "new": second, "old": {}, "errors": None},
        "delete 1": {"eventType": "DELETE", "new": {}, "old": key, "errors": None},
    }
    assert seen["filtered"] == [told["insert 2"]]
    assert seen == {
        **seen,
        "left_over": [0, 0, 0],
        "bad_filter": ["error", True],
        "acknowledged": "ok",
        "heard": {"text": "hällo"},
        "echoed": {"text": "hällo"},
        "bytes": [0, 255],
        "http": {"success": True},
        "heard_http": {"n": 1},
        "heard_sql": ["by sql", 2, True],
        "allowed": ["SUBSCRIBED", None],
        "denied": ["CHANNEL_ERROR", f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}"],
        "tracked": "ok",
        "presence": [["join", "ada", "calm"], ["join", "bob", "bright"], ["leave", "bob"]],
        "present": ["ada", "bob"],
        "states": ["CHANNEL_ERROR", "SUBSCRIBED"],
        "after_break": {"id": 9, "owner": bob, "tags": None, "price": None},
    }
