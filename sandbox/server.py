"""The web server: uvicorn, with the means to break a connection on purpose and a stop that never hangs."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.sandbox import Sandbox

HOST = "127.0.0.1"  # never another: the sandbox has no accounts and obeys everyone who reaches it
GRACE_S = 3  # seconds that picture work has at a stop; it takes about one


class TransportInScope(HttpToolsProtocol):
    """Hands the connection to the application as `scope["state"]["transport"]`; ASGI itself has no way to drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class SandboxServer(uvicorn.Server):
    def __init__(self, sandbox: Sandbox, app: object, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                host=HOST,
                port=port,
                http=TransportInScope,
                ws="none",
                access_log=False,
                log_level="warning",
                server_header=False,
                headers=[("server", "vitrine-sandbox")],
                timeout_graceful_shutdown=2 * GRACE_S,
                backlog=4096,
            )
        )
        self._sandbox = sandbox

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            print(f"ready http://{HOST}:{port}", flush=True)  # noqa: T201  whoever started us waits for this line

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.stopping.set()  # ends hanging and dripping answers
        last_call = asyncio.get_running_loop().call_later(GRACE_S, self._sandbox.abandon_work)
        await super().shutdown(sockets)
        last_call.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal is a wish to stop, not a failure: the exit code stays 0 (uvicorn would raise it again)."""
        self.force_exit = self.should_exit
        self.should_exit = True
