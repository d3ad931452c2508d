from __future__ import annotations

import json
from pathlib import Path

from sandbox.tasks import Task, TaskStore


def test_a_task_that_another_version_wrote_is_taken_up(tmp_path: Path) -> None:
    """An update must not keep the sandbox from starting."""
    task = Task(
        task_id="task_1",
        line_number=1,
        operation="generate",
        prompt="On stone.",
        parameters={},
        image_urls=[],
        callback_url=None,
        base_url="http://127.0.0.1:1",
        operation_type="nano-banana",
        ratio=None,
        pixels=1_000_000,
        media_type="image/png",
        fault=None,
        created_ms=0,
    )
    TaskStore(tmp_path).save(task)
    file = tmp_path / "tasks" / "task_1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": "of a later version"}))
    assert TaskStore(tmp_path).get("task_1") == task
