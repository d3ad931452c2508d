"""One Vitrine a folder: the lock, the record of what was started, and the end of what was left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts import ports
from scripts.data_folder import DataFolder
from scripts.instance import AlreadyRunningError, Instance, ProcessNote, Record, running_supervisor, stop_left_behind

IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); time.sleep(60)"


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "vitrine")


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own that does not obey SIGTERM."""
    process = subprocess.Popen([sys.executable, "-c", IGNORES_SIGTERM], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_can_be_claimed_once(data: DataFolder) -> None:
    instance = Instance.claim(data)
    with pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        Instance.claim(data)
    instance.release()
    Instance.claim(data).release()


def test_the_supervisor_of_a_folder_is_known_while_it_holds_it(data: DataFolder) -> None:
    assert running_supervisor(data) is None
    instance = Instance.claim(data)
    holder = running_supervisor(data)
    assert holder is not None
    assert holder.pid == os.getpid()
    instance.release()
    assert running_supervisor(data) is None


def test_what_was_left_behind_is_ended_before_the_next_claim(
    data: DataFolder, stubborn: subprocess.Popen[bytes]
) -> None:
    killed = Instance.claim(data)
    killed.note([ProcessNote.of("worker", stubborn.pid, grace_s=0.1)])
    data.write_ready({})
    killed.release()

    claimed = Instance.claim(data)
    assert stubborn.wait(5) == -signal.SIGKILL
    assert data.read_ready() is None
    claimed.release()


def test_a_claim_waits_for_the_guard_of_a_killed_supervisor(data: DataFolder) -> None:
    dead = ProcessNote(name="supervisor", pid=os.getpid(), started_at=0)
    guard = Instance.claim(data)
    Record(supervisor=dead).write(guard.descriptor)
    waited = []

    def on_wait() -> None:
        waited.append(True)
        guard.release()

    Instance.claim(data, on_wait=on_wait).release()
    assert waited == [True]


def test_another_process_with_the_same_number_is_left_alone(
    data: DataFolder, stubborn: subprocess.Popen[bytes]
) -> None:
    earlier = ProcessNote(name="api", pid=stubborn.pid, started_at=psutil.Process(stubborn.pid).create_time() - 60)
    assert earlier.living() is None
    stop_left_behind([earlier], data)
    assert stubborn.poll() is None


def test_a_port_that_is_listened_on_or_just_taken_is_passed_over(data: DataFolder) -> None:
    data.create()
    taken = ports.take_any()
    assert data.port("api", taken) == taken + 1
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen()
        listened_on = other.getsockname()[1]
        assert data.port("sandbox", listened_on) > listened_on


def test_the_port_of_the_first_start_is_kept(data: DataFolder) -> None:
    data.create()
    (data.path / "api_port").write_text("19123")
    assert data.port("api", default=20_000) == 19123
