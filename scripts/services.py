"""The four services: how each is started, when it is ready, how long it may take to stop."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scripts.data_folder import ROOT, DataFolder
from scripts.ports import LOOPBACK

#: First the API, so that nothing new comes in, then the worker, which drains; both still need the others for that.
STOP_ORDER = ("api", "worker", "sandbox", "supabase")

API_GRACE_S = 10
API_STOP_S = API_GRACE_S + 5.0
SANDBOX_STOP_S = 10.0
SUPABASE_STOP_S = 60.0  # Postgres writes a checkpoint
WORKER_MARGIN_S = 15.0  # on top of SHUTDOWN_GRACE_SECONDS

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    name: str
    title: str  #: as people call it
    address: str  #: what to show of it; empty: known once it runs
    command: tuple[str, ...]
    stop_s: float  #: from SIGTERM on; then it is killed
    environment: Mapping[str, str] = field(repr=False)  #: holds keys
    folder: Path | None = None  #: where it runs and looks for `.env`; None: where we do
    #: Asked until it says yes. None: the service prints `ready <url>`.
    probe: Probe | None = None


def supabase(data: DataFolder, environment: Mapping[str, str], *, port: int | None = None) -> Service:
    """The embedded one. Without a port it takes the one it had before; `stack.json` tells which."""
    options = () if port is None else ("--port", str(port))
    return Service(
        name="supabase",
        title="Supabase",
        address="",
        command=(sys.executable, "-m", "embedded", "--data", str(data.supabase), *options),
        environment=environment,
        stop_s=SUPABASE_STOP_S,
    )


def sandbox(data: DataFolder, environment: Mapping[str, str], *, port: int) -> Service:
    return Service(
        name="sandbox",
        title="sandbox",
        address=f"http://{LOOPBACK}:{port}",
        command=(sys.executable, "-m", "sandbox", "--data", str(data.sandbox), "--port", str(port)),
        environment=environment,
        stop_s=SANDBOX_STOP_S,
    )


def api(environment: Mapping[str, str], *, port: int, http: httpx.AsyncClient, folder: Path | None = None) -> Service:
    url = f"http://{LOOPBACK}:{port}"
    server = ("-m", "uvicorn", "main:app", "--app-dir", str(ROOT), "--host", LOOPBACK, "--port", str(port))
    return Service(
        name="api",
        title="API",
        address=url,
        command=(sys.executable, *server, "--no-access-log", "--timeout-graceful-shutdown", str(API_GRACE_S)),
        environment=environment,
        folder=folder,
        stop_s=API_STOP_S,
        probe=lambda: _health_says(http, url, lambda _: True),
    )


def worker(
    environment: Mapping[str, str], *, api_url: str, http: httpx.AsyncClient, drain_s: float, folder: Path | None = None
) -> Service:
    """The API tells when it is ready, so that must have been started."""
    return Service(
        name="worker",
        title="worker",
        address=environment.get("WORKER_ID", ""),
        command=(sys.executable, str(ROOT / "worker.py")),
        environment=environment,
        folder=folder,
        stop_s=drain_s + WORKER_MARGIN_S,
        probe=lambda: _health_says(http, api_url, lambda health: bool(health["workers"]["alive"])),
    )


async def _health_says(
    http: httpx.AsyncClient, api_url: str, question: Callable[[dict[str, dict[str, int]]], bool]
) -> bool:
    try:
        answer = await http.get(f"{api_url}/health", timeout=5)
    except httpx.TransportError:
        return False
    return answer.is_success and question(answer.json())
