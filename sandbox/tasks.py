"""NanoBanana tasks and their results on disk, so that both outlive the sandbox."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.faults import Fault, make_fault

#: `successFlag` on the wire.
GENERATING, DONE, NOT_CREATED, FAILED = 0, 1, 2, 3


@dataclass(slots=True, kw_only=True)
class Task:
    task_id: str
    line_number: int  #: of the invoice
    operation: str  #: generate, generate-2 or generate-pro
    prompt: str  #: without a fault marker
    #: The request as it came. Holds signed URLs: kept with the task, never printed.
    parameters: dict[str, Any]
    image_urls: list[str]
    callback_url: str | None
    base_url: str  #: of this sandbox, as the client reached it
    operation_type: str  #: as the record names it
    ratio: float | None  #: width / height of the result; None: as the picture has it
    pixels: int  #: of the result, about
    media_type: str
    fault: Fault | None
    created_ms: int  #: since 1970
    flag: int = GENERATING
    completed_ms: int | None = None
    error_code: int | None = None
    error_message: str | None = None
    result_name: str | None = None  #: random; the last part of the result URL
    result_file: str | None = None  #: in the results folder, named by content
    result_expires_ms: int | None = None

    def to_json(self) -> str:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({**fields, "fault": self.fault.as_json() if self.fault else None})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """What another version wrote and this one does not know is left out."""
        fields = json.loads(text)
        fault = fields.pop("fault")
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {name: value for name, value in fields.items() if name in known}
        return cls(**fields, fault=make_fault(fault.pop("name"), fault) if fault else None)


class TaskStore:
    """One JSON file for each task, one file for each distinct result. In memory as well; the files are for restarts."""

    def __init__(self, data_dir: Path) -> None:
        self._tasks_dir = data_dir / "tasks"
        self._results_dir = data_dir / "results"
        for folder in (self._tasks_dir, self._results_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._tasks: dict[str, Task] = {}
        self._by_result: dict[str, Task] = {}
        for file in sorted(self._tasks_dir.glob("*.json")):
            self._remember(Task.from_json(file.read_text("utf-8")))

    def get(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def by_result(self, result_name: str) -> Task | None:
        return self._by_result.get(result_name)

    def unfinished(self) -> list[Task]:
        return [task for task in self._tasks.values() if task.flag == GENERATING]

    def save(self, task: Task) -> None:
        self._remember(task)
        _write_whole(self._tasks_dir / f"{task.task_id}.json", task.to_json().encode())

    def add_result(self, task: Task, content: bytes) -> None:
        """Keep a result file and give the task a random name for it. Equal contents share a file."""
        suffix = "jpg" if task.media_type == "image/jpeg" else "png"
        task.result_file = f"{hashlib.sha256(content).hexdigest()}.{suffix}"
        task.result_name = f"{secrets.token_hex(16)}.{suffix}"
        file = self._results_dir / task.result_file
        if not file.exists():
            _write_whole(file, content)

    def read_result(self, task: Task) -> bytes:
        """The file of a task that is done."""
        if task.result_file is None:
            raise ValueError(f"{task.task_id} has no result")
        return _read_cached(self._results_dir / task.result_file)

    def remove_expired_results(self, now_ms: int) -> None:
        wanted = {task.result_file for task in self._tasks.values() if (task.result_expires_ms or 0) > now_ms}
        for file in self._results_dir.iterdir():
            if file.name not in wanted:
                file.unlink(missing_ok=True)

    def _remember(self, task: Task) -> None:
        self._tasks[task.task_id] = task
        if task.result_name is not None:
            self._by_result[task.result_name] = task


@functools.lru_cache(maxsize=8)  # in a benchmark all results are one ready-made picture
def _read_cached(file: Path) -> bytes:
    return file.read_bytes()


def _write_whole(file: Path, content: bytes) -> None:
    """A reader after a kill sees the old file or the new one, never a part."""
    partial = file.with_suffix(f".{secrets.token_hex(4)}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
