"""Everything that contenders run against: one embedded Supabase and one sandbox with fixed latencies."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from PIL import Image

from bench.contender import Outcome
from bench.figures import CUTOUT_S, SCENE_S
from bench.processes import ROOT, Running, cpu_of_family, running
from scripts.environment import demo_environment
from scripts.migrate import migrate
from scripts.ports import take_any

PEERS_DATABASE = "bench_peers"
BUCKET = "plant-images"  # the product's default
RAW_KEY = "products/bench.jpg"
TABLES = "products, runs, steps, calls, budgets, idempotency_keys, events, workers"
LATENCY: Mapping[str, float] = {"cutout": CUTOUT_S, "scene": SCENE_S}
CONTENDER_LIMIT_S = 900.0
LEASE_S = 60  # a starved machine must not lose leases in the middle of a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    path: Path
    width: int
    height: int

    @classmethod
    def at(cls, path: Path) -> Photo:
        with Image.open(path) as image:
            return cls(path=path, width=image.width, height=image.height)

    def as_raw(self) -> dict[str, Any]:
        """The photograph as `create_product_v1` takes it, lying at RAW_KEY."""
        content = self.path.read_bytes()
        return {
            "bucket": BUCKET,
            "key": RAW_KEY,
            "media_type": "image/jpeg",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "width": self.width,
            "height": self.height,
            "url": "http://127.0.0.1/raw.jpg",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSeconds:
    """What the machine's parts have used so far."""

    gateway: float
    postgres: float
    sandbox: float

    def __sub__(self, earlier: CpuSeconds) -> CpuSeconds:
        return CpuSeconds(
            gateway=self.gateway - earlier.gateway,
            postgres=self.postgres - earlier.postgres,
            sandbox=self.sandbox - earlier.sandbox,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    folder: Path
    supabase_url: str
    secret_key: str = field(repr=False)
    superuser_url: str = field(repr=False)
    sandbox_url: str
    postgres_pid: int
    gateway: Running
    sandbox: Running

    # -- the database

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.superuser_url, autocommit=True)

    @property
    def peers_database_url(self) -> str:
        return self.superuser_url.rpartition("/")[0] + f"/{PEERS_DATABASE}"

    def reset(self) -> None:
        """No products, an empty invoice, the latencies that all figures stand on."""
        with self.connect() as connection:
            connection.execute(f"truncate {TABLES} cascade".encode())
        self.behave()
        httpx.delete(f"{self.sandbox_url}/_sandbox/invoice", trust_env=False).raise_for_status()

    def behave(self, latency: Mapping[str, float] = LATENCY) -> None:
        behaviour = {"ready_made": True, "fetch_inputs": False, "latency": dict(latency)}
        httpx.patch(f"{self.sandbox_url}/_sandbox/behaviour", json=behaviour, trust_env=False).raise_for_status()

    def purchases(self) -> int:
        """How many pictures the sandbox has billed since the last reset."""
        url, billed = f"{self.sandbox_url}/_sandbox/invoice", {"accepted": "true"}
        return len(httpx.get(url, params=billed, timeout=60, trust_env=False).raise_for_status().json()["lines"])

    def queue(self, products: int, photo: Photo) -> float:
        """Insert products with their first runs in one transaction, as the API does one by one.

        Returns the time of the commit by the database's clock, in seconds since 1970.
        """
        run = {"recipe": "storefront", "pack": "jewellery", "pack_version": 1, "max_attempts": 4}
        with self.connect() as connection:
            connection.execute(
                "select public.create_product_v1(jsonb_build_object('id', gen_random_uuid()), %s, %s) "
                "from generate_series(1, %s)",
                (json.dumps(photo.as_raw()), json.dumps(run), products),
            )
            row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
        assert row is not None
        return float(row[0])

    async def wait_all_done(self, products: int) -> float:
        """The end of the last run by the database's clock, in seconds since 1970.

        Raises:
            RuntimeError: A run has failed, so that nothing was measured.
        """
        query = (
            "select count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'), "
            "extract(epoch from max(completed_at))::float8 from public.runs"
        )
        async with asyncio.timeout(CONTENDER_LIMIT_S):
            with self.connect() as connection:
                while True:
                    row = connection.execute(query.encode()).fetchone()
                    assert row is not None
                    completed, failed, ended_at = row
                    if failed:
                        raise RuntimeError(f"{failed} runs have failed")
                    if completed == products:
                        return float(ended_at)
                    await asyncio.sleep(0.05)

    async def upload(self, photo: Photo) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.post(
                f"{self.supabase_url}/storage/v1/object/{BUCKET}/{RAW_KEY}",
                content=photo.path.read_bytes(),
                headers={"apikey": self.secret_key, "Content-Type": "image/jpeg", "x-upsert": "true"},
            )
            answer.raise_for_status()

    # -- processes

    def cpu(self) -> CpuSeconds:
        return CpuSeconds(
            gateway=self.gateway.cpu().total,
            postgres=cpu_of_family(self.postgres_pid),
            sandbox=self.sandbox.cpu().total,
        )

    def environment(self, **settings: str) -> dict[str, str]:
        return demo_environment(
            supabase_url=self.supabase_url,
            supabase_service_role_key=self.secret_key,
            sandbox_url=self.sandbox_url,
            api_key="bench",
            lease_seconds=str(LEASE_S),
            log_level="WARNING",
        ) | {name.upper(): value for name, value in settings.items()}

    @asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator[Running]:
        """A worker that listens to the bell."""
        async with running(
            ["-m", "bench.listening_worker"],
            log=self.folder / "worker.log",
            environment=self.environment(**settings),
            folder=self.folder,
        ) as worker:
            yield worker

    @asynccontextmanager
    async def api(self) -> AsyncIterator[str]:
        """The address of an API."""
        port = take_any()
        async with running(
            ["-m", "uvicorn", "main:app", "--app-dir", str(ROOT), "--port", str(port), "--no-access-log"],
            log=self.folder / "api.log",
            environment=self.environment(log_level="INFO"),
            folder=self.folder,
            is_ready=lambda line: "api.started" in line,
        ):
            yield f"http://127.0.0.1:{port}"

    async def contest(
        self, module: str, products: int, concurrency: int, photo: Photo, *, python: str = sys.executable, **more: str
    ) -> Outcome:
        """Let a contender's module do the work in a process of its own."""
        with (self.folder / "contenders.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                python, "-m", module, "--products", str(products), "--concurrency", str(concurrency),
                "--photo", str(photo.path),
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment(peer_database_url=self.peers_database_url, **more),
                cwd=self.folder,
            )  # fmt: skip
        try:
            async with asyncio.timeout(CONTENDER_LIMIT_S):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last_words = (self.folder / "contenders.log").read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"{module} has ended with code {process.returncode}: {last_words}")
        return Outcome(**json.loads(out.splitlines()[-1]))


@asynccontextmanager
async def start_machine(folder: Path) -> AsyncIterator[Machine]:
    """Start both in `folder`, which holds their data and logs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    data = folder / "supabase"
    latency = ",".join(f"{work}={seconds}" for work, seconds in LATENCY.items())
    async with (
        running(
            ["-m", "embedded", "--data", str(data), "--port", "0", "--exit-with-parent"],
            log=folder / "supabase.log",
            environment=environment,
            folder=folder,
        ) as gateway,
        running(
            ["-m", "sandbox", "--port", "0", "--data", str(folder / "sandbox"), "--ready-made", "--latency", latency],
            log=folder / "sandbox.log",
            environment=environment,
            folder=folder,
        ) as sandbox,
    ):
        stack = json.loads((data / "stack.json").read_text())
        migrate(stack["database_url"])
        with psycopg.connect(stack["superuser_url"], autocommit=True) as connection:
            connection.execute(f"create database {PEERS_DATABASE}".encode())
        yield Machine(
            folder=folder,
            supabase_url=stack["url"],
            secret_key=stack["secret_key"],
            superuser_url=stack["superuser_url"],
            sandbox_url=sandbox.first_line.split()[1],
            postgres_pid=int((data / "postgres" / "postmaster.pid").read_text().split("\n")[0]),
            gateway=gateway,
            sandbox=sandbox,
        )


def make_photo(path: Path, *, megabytes: float) -> Photo:
    """A JPEG of about this size that no encoder can make smaller: noise."""
    side = round((megabytes * 1e6 / 1.03) ** 0.5)  # at quality 95 a pixel of grey noise takes 1.03 bytes
    noise = os.urandom(side * side)
    output = io.BytesIO()
    Image.frombytes("L", (side, side), noise).convert("RGB").save(output, "JPEG", quality=95, subsampling=0)
    path.write_bytes(output.getvalue())
    return Photo.at(path)


def load_average() -> float:
    """Of the last minute: processes that want a core, ours included."""
    return psutil.getloadavg()[0]
