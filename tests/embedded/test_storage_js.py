"""Storage through supabase-js: the cases are in tests/js/storage.mjs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.stack import RunningStack

NODE = Path(sys.executable).parent / "node"
SCRIPT = Path(__file__).parents[1] / "js" / "storage.mjs"


async def test_supabase_js_can_do_everything_with_storage(stack: RunningStack) -> None:
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--test",
        "--test-reporter=spec",
        SCRIPT,
        env=stack.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
