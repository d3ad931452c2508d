"""Brings up everything that a Vitrine needs, in order: Supabase and sandbox, migrations, API and worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx

from scripts import ports, services
from scripts.console import Console
from scripts.data_folder import DataFolder
from scripts.environment import Given, demo_environment, services_environment
from scripts.sandbox_reach import check_sandbox_may_fetch
from scripts.schema import apply_migrations, bring_up_to_date
from scripts.services import Service
from scripts.supervisor import Supervisor

WORKER_ID = "worker-1"  # a name of its own lets a restarted worker take its runs back at once
API_PORT = 8000
SANDBOX_PORT = 8900  # kept as well: the results of tasks in flight lie at addresses with the port
DEMO_DRAIN_S = 5.0  # nothing in a demo is worth waiting for


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Where the running parts are."""

    api_url: str
    api_key: str = field(repr=False)
    supabase_url: str  #: as browsers reach it
    publishable_key: str | None
    sandbox_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _EmbeddedAccess:
    """What a client needs to reach the embedded Supabase: from its `stack.json`."""

    url: str
    database_url: str = field(repr=False)
    secret_key: str = field(repr=False)
    publishable_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStarter:
    supervisor: Supervisor
    data: DataFolder
    console: Console
    http: httpx.AsyncClient

    async def start_embedded(self, given: Given) -> Stack:
        """All of it on this machine; yet a provider that has a key is the real one.

        Raises:
            StartError, OperatorError
        """
        public_url = _without_slash(given.supabase_public_url)
        sandbox = self._sandbox_for(given)
        supabase = services.supabase(self.data, services_environment(supabase_public_url=public_url))
        access = await self._start_supabase(supabase, sandbox)

        api_key = self._api_key(given)
        environment = services_environment(
            supabase_url=access.url,
            supabase_service_role_key=access.secret_key,
            sandbox_url=sandbox.address if sandbox else None,
            api_key=api_key,
            worker_id=given.worker_id or WORKER_ID,
        )
        api_url = await self._start_api_and_worker(
            environment, port=self.data.port("api", API_PORT), drain_s=given.shutdown_grace_seconds
        )
        return Stack(
            api_url=api_url,
            api_key=api_key,
            supabase_url=public_url or access.url,
            publishable_key=access.publishable_key,
            sandbox_url=sandbox.address if sandbox else None,
        )

    async def start_demo(self) -> Stack:
        """All of it on this machine, on ports of its own, without the operator's keys.

        Raises:
            StartError, OperatorError
        """
        sandbox = services.sandbox(self.data, demo_environment(), port=ports.take_any())
        supabase = services.supabase(self.data, demo_environment(), port=ports.take_any())
        access = await self._start_supabase(supabase, sandbox)
        environment = demo_environment(
            supabase_url=access.url,
            supabase_service_role_key=access.secret_key,
            sandbox_url=sandbox.address,
            api_key=self.data.api_key(),
            worker_id=WORKER_ID,
            shutdown_grace_seconds=str(DEMO_DRAIN_S),
        )
        api_url = await self._start_api_and_worker(
            environment, port=ports.take_any(), drain_s=DEMO_DRAIN_S, folder=self.data.path
        )
        return Stack(
            api_url=api_url,
            api_key=self.data.api_key(),
            supabase_url=access.url,
            publishable_key=access.publishable_key,
            sandbox_url=sandbox.address,
        )

    async def start_with_own_supabase(self, given: Given) -> Stack:
        """API and worker on this machine, against the operator's Supabase.

        Raises:
            StartError, OperatorError
        """
        sandbox = self._sandbox_for(given)
        if sandbox:
            await check_sandbox_may_fetch(given)
        self.console.done("migrations", await bring_up_to_date(given))
        if sandbox:
            await self._start(sandbox)
        api_key = self._api_key(given)
        # No name for the worker: elsewhere, another one may work under the same.
        environment = services_environment(api_key=api_key, sandbox_url=sandbox.address if sandbox else None)
        api_url = await self._start_api_and_worker(
            environment, port=self.data.port("api", API_PORT), drain_s=given.shutdown_grace_seconds
        )
        return Stack(
            api_url=api_url,
            api_key=api_key,
            supabase_url=_without_slash(given.supabase_public_url or given.supabase_url) or "",
            publishable_key=given.supabase_publishable_key,
            sandbox_url=sandbox.address if sandbox else None,
        )

    # -- the parts

    def _sandbox_for(self, given: Given) -> Service | None:
        if not given.needs_sandbox:
            return None
        return services.sandbox(self.data, services_environment(), port=self.data.port("sandbox", SANDBOX_PORT))

    async def _start_supabase(self, supabase: Service, sandbox: Service | None) -> _EmbeddedAccess:
        """The embedded Supabase with the newest schema, then the sandbox, which fetches pictures from it at once."""
        await self.supervisor.start(supabase)
        stack_file = json.loads((self.data.supabase / "stack.json").read_text())
        access = _EmbeddedAccess(**{each.name: stack_file[each.name] for each in fields(_EmbeddedAccess)})
        self.console.done(supabase.title, access.url)
        migrating = apply_migrations(access.database_url)
        said, _ = await asyncio.gather(migrating, self._start(*([sandbox] if sandbox else [])))
        self.console.done("migrations", said)
        return access

    async def _start_api_and_worker(
        self, environment: Mapping[str, str], *, port: int, drain_s: float, folder: Path | None = None
    ) -> str:
        """The API's address."""
        api = services.api(environment, port=port, http=self.http, folder=folder)
        worker = services.worker(environment, api_url=api.address, http=self.http, drain_s=drain_s, folder=folder)
        await self._start(api, worker)
        return api.address

    async def _start(self, *started: Service) -> None:
        await self.supervisor.start(*started)
        for service in started:
            self.console.done(service.title, service.address)

    def _api_key(self, given: Given) -> str:
        return given.api_key.get_secret_value() if given.api_key else self.data.api_key()


def _without_slash(url: object) -> str | None:
    return None if url is None else str(url).rstrip("/")
