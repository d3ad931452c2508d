"""Runs the embedded Supabase as a newcomer does: a process of its own, reached over HTTP only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class StackStartError(Exception):
    """The stack ended before it was ready; the message is what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """A running stack, with the fields of its `stack.json`."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str
    #: As role `postgres`, as migrations connect.
    database_url: str = field(repr=False)
    superuser_url: str = field(repr=False)
    publishable_key: str
    secret_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    anon_jwt: str
    service_role_jwt: str = field(repr=False)
    pid: int

    def stop(self) -> int:
        """Stop it cleanly; the exit code comes back."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        self._close()
        return code

    def kill(self) -> None:
        """Kill the gateway as `kill -9` does. Its Postgres stays behind until a next start on the same folder."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self._close()

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def log(self) -> str:
        """What it wrote on stderr so far."""
        return log_file(self.data_dir).read_text()

    def environment(self) -> dict[str, str]:
        """The environment of a client program, such as one of `tests/js`."""
        return os.environ | {
            "SUPABASE_URL": self.url,
            "SUPABASE_PUBLISHABLE_KEY": self.publishable_key,
            "SUPABASE_SECRET_KEY": self.secret_key,
            "SUPABASE_ANON_JWT": self.anon_jwt,
            "SUPABASE_SERVICE_ROLE_JWT": self.service_role_jwt,
        }


def start_stack(
    data_dir: Path, *, port: int | None = 0, postgres_version: int = 18, environment: dict[str, str] | None = None
) -> RunningStack:
    """Start `python -m embedded` and wait until it is ready. `port=0`: any free one; None: as last time.

    Raises:
        StackStartError: It ended instead.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "embedded", "--exit-with-parent", "--data", str(data_dir)]
    command += ["--postgres-version", str(postgres_version)]
    if port is not None:
        command += ["--port", str(port)]
    with log_file(data_dir).open("a") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    assert process.stdout is not None
    first_line = process.stdout.readline()
    if not first_line.startswith("ready "):
        process.stdout.close()
        process.wait(START_TIMEOUT_S)
        raise StackStartError(log_file(data_dir).read_text())
    return RunningStack(process=process, data_dir=data_dir, **json.loads((data_dir / "stack.json").read_text()))


def log_file(data_dir: Path) -> Path:
    return data_dir / "stack.log"
