"""The process: starts, does real picture work beside the event loop, stops clean, leaves nothing behind."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.sandbox.running import ROOT, SandboxClient, SandboxProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def children_of(pid: int) -> set[int]:
    """Process ids, straight from the kernel."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def pool_processes(pid: int) -> set[int]:
    """Those children that work; multiprocessing has one more, its resource tracker."""
    return {child for child in children_of(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def has_ended(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def wait_until_ended(pids: set[int]) -> None:
    deadline = time.monotonic() + 10
    while not all(has_ended(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes outlive the sandbox"
        time.sleep(0.05)


def test_a_photograph_becomes_a_cut_out_while_the_server_still_answers(tmp_path: Path) -> None:
    photo = (ROOT / "samples" / "earrings.jpg").read_bytes()
    running = SandboxProcess(tmp_path)
    answers: list[httpx.Response] = []

    def work() -> None:
        with SandboxClient(running.url) as worker:
            answers.append(worker.cut_out(photo))

    thread = threading.Thread(target=work)
    thread.start()
    beats = 0
    with SandboxClient(running.url) as client:
        while thread.is_alive():
            assert client.get("/_sandbox/health").json()["status"] == "ok"
            beats += 1
            time.sleep(0.02)
    thread.join()
    assert beats > 2
    with Image.open(io.BytesIO(base64.b64decode(answers[0].json()["image"]))) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (1120, 1400))
        assert picture.getchannel("A").getextrema() == (0, 255)
    started = children_of(running.process.pid)
    assert started
    assert running.stop() == (0, "", "")
    wait_until_ended(started)


def test_a_stop_in_the_middle_of_picture_work_is_clean(tmp_path: Path) -> None:
    running = SandboxProcess(tmp_path)
    photo = (ROOT / "samples" / "earrings.jpg").read_bytes()

    def work() -> None:
        with SandboxClient(running.url) as client, contextlib.suppress(httpx.TransportError):
            for _ in range(100):
                client.cut_out(photo)

    thread = threading.Thread(target=work)
    thread.start()
    while not children_of(running.process.pid):
        time.sleep(0.02)
    time.sleep(0.3)  # now the pool loads its libraries or is at work: any moment is a good one
    assert running.stop() == (0, "", "")
    thread.join()


def test_a_stop_kills_picture_work_that_takes_too_long(tmp_path: Path) -> None:
    running = SandboxProcess(tmp_path)
    answers: list[int] = []
    body = {"prompt": "A ring on white marble"}

    def work() -> None:
        with SandboxClient(running.url) as client:
            answers.append(client.post("/v1/image/create", json=body).status_code)

    thread = threading.Thread(target=work)
    thread.start()
    while not (pool := pool_processes(running.process.pid)):
        time.sleep(0.02)
    for process in pool:
        os.kill(process, signal.SIGSTOP)
    assert running.stop() == (0, "", "")
    thread.join()
    assert answers == [500]


def test_a_killed_sandbox_leaves_no_pool_process(tmp_path: Path) -> None:
    running = SandboxProcess(tmp_path)
    with SandboxClient(running.url) as client:
        client.cut_out((ROOT / "samples" / "cup.jpg").read_bytes())
    started = children_of(running.process.pid)
    assert started
    running.stop(signal.SIGKILL)
    wait_until_ended(started)


@pytest.mark.parametrize("fault", ["hang", "drip; seconds=30"])
def test_a_stop_does_not_wait_for_a_hanging_answer(tmp_path: Path, fault: str) -> None:
    running = SandboxProcess(tmp_path, "--ready-made")

    def hang() -> None:
        with SandboxClient(running.url) as client, pytest.raises(httpx.TransportError):
            client.get("/api/misc/balance", headers={"X-Sandbox-Fault": fault})

    thread = threading.Thread(target=hang)
    thread.start()
    with SandboxClient(running.url) as client:
        while not client.invoice(operation="balance")["lines"]:
            time.sleep(0.02)
    assert running.stop() == (0, "", "")
    thread.join()


def test_options_at_the_start_are_obeyed(tmp_path: Path) -> None:
    rules = tmp_path / "faults.json"
    rules.write_text(json.dumps([{"match": {"operation": "balance"}, "fault": {"name": "out_of_credit"}}]))
    running = SandboxProcess(
        tmp_path / "data", "--faults", str(rules), "--latency", "cutout=0.2,scene=1", "--ready-made"
    )
    with SandboxClient(running.url) as client:
        assert client.get("/api/misc/balance").status_code == 402
        behaviour = client.get("/_sandbox/behaviour").json()
        assert "not a model" in client.get("/").text
        assert client.get("/").headers["server"] == "vitrine-sandbox"
    assert behaviour["latency"] == {"cutout": 0.2, "scene": 1.0}
    assert behaviour["ready_made"] is True
    assert running.stop() == (0, "", "")


@pytest.mark.parametrize("latency", ["polish=1", "cutout=soon", "cutout=-1"])
def test_a_latency_that_makes_no_sense_stops_the_start(tmp_path: Path, latency: str) -> None:
    options = ["--port", "0", "--data", str(tmp_path), "--latency", latency]
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "--latency" in ended.stderr
