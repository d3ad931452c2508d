"""A running sandbox in a process of its own, its client, and a small server that it talks to."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.contracts import SAMPLES

ROOT = Path(__file__).parents[2]
KEY = {"Authorization": "Bearer any-key"}
PICTURE = base64.b64decode(SAMPLES["base64 png"])


class SandboxProcess:
    """`python -m sandbox` on a free port."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(data_dir), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if words[:1] != ["ready"]:
            raise RuntimeError(f"the sandbox did not start: {self.process.communicate()[1]}")
        self.url = words[1]

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, and what was still written to stdout and stderr."""
        self.process.send_signal(sent)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


class SandboxClient(httpx.Client):
    """The product's side of the wire, and the control API."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, headers=KEY, timeout=20, trust_env=False, verify=False)

    def reset(self) -> None:
        """No rules, an empty invoice, quick work."""
        self.delete("/_sandbox/faults").raise_for_status()
        self.delete("/_sandbox/invoice").raise_for_status()
        self.behave(
            latency={},
            ready_made=True,
            fetch_inputs=True,
            result_lifetime_s=3600,
            keys={},
            credits={"reve": 1_000_000, "nanobanana": 1_000_000},
        )

    def behave(self, **changes: Any) -> None:
        self.patch("/_sandbox/behaviour", json=changes).raise_for_status()

    def rule(self, fault: dict[str, Any], **match: Any) -> None:
        self.post("/_sandbox/faults", json={"match": match, "fault": fault}).raise_for_status()

    def invoice(self, **filters: str) -> dict[str, Any]:
        return dict(self.get("/_sandbox/invoice", params=filters).json())

    def cut_out(self, photo: bytes = PICTURE, *, fault: str | None = None) -> httpx.Response:
        body = {
            "edit_instruction": "Remove the background.",
            "reference_image": base64.b64encode(photo).decode(),
            "postprocessing": [{"process": "remove_background"}],
        }
        return self.post("/v1/image/edit", json=body, headers={"X-Sandbox-Fault": fault} if fault else {})

    def submit(self, picture_url: str, *, prompt: str = "On dark stone.", fault: str | None = None, **more: Any) -> str:
        """Start a scene; its task id."""
        body = {"prompt": prompt, "type": "IMAGETOIAMGE", "imageUrls": [picture_url], **more}
        headers = {"X-Sandbox-Fault": fault} if fault else {}
        answer = self.post("/api/v1/nanobanana/generate", json=body, headers=headers)
        return str(answer.json()["data"]["taskId"])

    def poll(self, task_id: str, **options: Any) -> httpx.Response:
        return self.get("/api/v1/nanobanana/record-info", params={"taskId": task_id}, **options)

    def finish(self, task_id: str) -> dict[str, Any]:
        """The record once the task is no longer running (whatever a fault makes of its flag)."""
        for _ in range(400):
            record = self.poll(task_id).json()["data"]
            if record["completeTime"] is not None:
                return dict(record)
            time.sleep(0.02)
        raise TimeoutError(task_id)


@dataclass
class Neighbour:
    """A small HTTP server on loopback: serves pictures by name and keeps what is posted to it."""

    url: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    posted: list[tuple[str, bytes]] = field(default_factory=list)
    refusals_left: int = 0  #: so many posts are answered with 503 first


@contextmanager
def running_neighbour() -> Iterator[Neighbour]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            picture = known.pictures.get(self.path.partition("?")[0])
            self._answer(404 if picture is None else 200, picture or b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.posted.append((self.path, body))
            known.refusals_left -= 1
            self._answer(503 if known.refusals_left >= 0 else 200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Neighbour(url=f"http://127.0.0.1:{server.server_port}", pictures={"/a.png": PICTURE})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
