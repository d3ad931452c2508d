"""Realtime as supabase-js sees it, which speaks version 2 of the protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.realtime_support import create_table, postgres_of, topic_name, user_token
from tests.stack import RunningStack

JAVASCRIPT = Path(__file__).parent.parent / "js"
NODE = Path(sys.executable).parent / "node"
TIME_LIMIT_S = 60.0


def run_script(environment: dict[str, str], do_step: Callable[[str], object]) -> dict[str, Any]:
    """Run `realtime.mjs`, doing the steps that it asks for; what it saw comes back."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [NODE, "realtime.mjs"],
            cwd=JAVASCRIPT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # the wheel's `node` is a script with the real one as its child
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(TIME_LIMIT_S, lambda: os.killpg(process.pid, signal.SIGKILL))
        watchdog.start()
        seen: dict[str, Any] = {}
        for line in process.stdout:
            if line.startswith("step: "):
                do_step(line.removeprefix("step: ").strip())
                process.stdin.write("done\n")
                process.stdin.flush()
            elif line.startswith("{"):
                seen = json.loads(line)
        watchdog.cancel()
        process.wait()
        errors.seek(0)
        assert seen, errors.read()
    return seen


@pytest.mark.skipif(not (JAVASCRIPT / "node_modules").exists(), reason="`make test` installs supabase-js")
def test_supabase_js_finds_everything_as_on_a_hosted_project(stack: RunningStack) -> None:
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
            "insert and update rows": f"insert into {table} values (1, '{ada}', array['a', 'b'], 1.5), "
            f"(2, '{bob}', null, null); update {table} set price = 2 where id = 1",
            "delete a row": f"delete from {table} where id = 1",
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
        seen = run_script(environment, lambda step: [postgres.execute(part) for part in steps[step].split(";")])
        postgres.execute(f"drop policy {table}_hear on realtime.messages")

    first = {"id": 1, "owner": ada, "tags": ["a", "b"], "price": 1.5}
    second = {"id": 2, "owner": bob, "tags": None, "price": None}

    def told(event: str, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        return {"eventType": event, "new": new, "old": old, "errors": None}

    insert_first, insert_second = told("INSERT", first, {}), told("INSERT", second, {})
    update, delete = told("UPDATE", first | {"price": 2}, {"id": 1}), told("DELETE", {}, {"id": 1})
    assert seen == {
        "all": [insert_first, insert_second, update, delete],
        "own": [insert_first, update, delete],
        "filtered": [insert_second],
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
        "denied": [
            "CHANNEL_ERROR",
            f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}",
        ],
        "tracked": "ok",
        "presence": [["join", "ada", "calm"], ["join", "bob", "bright"], ["leave", "bob"]],
        "present": ["ada", "bob"],
        "states": ["CHANNEL_ERROR", "SUBSCRIBED"],
        "after_break": {"id": 9, "owner": bob, "tags": None, "price": None},
    }
