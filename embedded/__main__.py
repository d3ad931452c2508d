"""Start one embedded Supabase: `python -m embedded --data DIR`.

Prints `ready <url>` when everything answers. SIGTERM or SIGINT stops it cleanly, first the gateway, then Postgres.
What a client needs to reach it is in `DIR/stack.json`, which only its owner can read.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from embedded.gateway import create_gateway
from embedded.identity import Identity
from embedded.keys import StackKeys, load_or_create_keys
from embedded.postgres import LOOPBACK, PostgresError, PostgresServer, free_port, port_is_free

DEFAULT_PORT = 54321  # the Supabase CLI's, so that its examples work unchanged
GRACEFUL_STOP_S = 5  # open websockets and downloads get this long


class PortTakenError(Exception):
    pass


def main() -> None:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    try:
        run(options)
    except (PostgresError, PortTakenError) as error:
        sys.exit(f"The embedded Supabase cannot start. {error}")


def run(options: argparse.Namespace) -> None:
    data: Path = options.data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    ports = load_ports(data / "ports.json", wanted_port=options.port)
    listener = listen(ports["gateway"])
    keys = load_or_create_keys(data / "keys.json")
    postgres = PostgresServer(data / "postgres", port=ports["postgres"], version=options.postgres_version)
    postgres.start()
    try:
        postgres.bootstrap()
        save_ports(data / "ports.json", ports)
        url = f"http://{LOOPBACK}:{ports['gateway']}"
        public_url = os.environ.get("SUPABASE_PUBLIC_URL", url).rstrip("/")
        write_stack_file(data / "stack.json", url=url, postgres=postgres, keys=keys)
        app = create_gateway(
            dsn=postgres.dsn(),
            identity=Identity(keys, issuer=f"{public_url}/auth/v1"),
            files_dir=data / "files",
            public_url=public_url,
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it prints query strings, and with them keys and signed links
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # on loopback it costs more than it saves
            timeout_graceful_shutdown=GRACEFUL_STOP_S,
        )
        server = GatewayServer(config, url, exit_with_parent=options.exit_with_parent)
        server.run(sockets=[listener])
        if not server.started:
            sys.exit(1)  # uvicorn has logged why
    finally:
        postgres.stop()


class GatewayServer(uvicorn.Server):
    """Uvicorn, saying when it is ready, and on request ending with the process that started it."""

    def __init__(self, config: uvicorn.Config, url: str, *, exit_with_parent: bool) -> None:
        super().__init__(config)
        self._url = url
        self._parent = os.getppid() if exit_with_parent else None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"ready {self._url}", flush=True)  # noqa: T201  whoever starts us waits for this line

    async def on_tick(self, counter: int) -> bool:
        orphaned = self._parent is not None and os.getppid() != self._parent
        return orphaned or await super().on_tick(counter)


def load_ports(path: Path, *, wanted_port: int | None) -> dict[str, int]:
    """The stack's two ports: kept from its first start on, because addresses with the port lie in rows."""
    kept: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    default_port = DEFAULT_PORT if port_is_free(DEFAULT_PORT) else 0
    gateway = kept.get("gateway", default_port) if wanted_port is None else wanted_port
    return {"gateway": gateway or free_port(), "postgres": kept.get("postgres") or free_port()}


def save_ports(path: Path, ports: dict[str, int]) -> None:
    path.write_text(json.dumps(ports))


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError:
        listener.close()
        raise PortTakenError(
            f"Port {port} is taken by another program, and the addresses stored in the database carry that port. "
            f"Either free it, or move: start with another --port, set SUPABASE_PUBLIC_URL to the new address "
            f"and rebase the stored addresses."
        ) from None
    return listener


def write_stack_file(path: Path, *, url: str, postgres: PostgresServer, keys: StackKeys) -> None:
    contents = {
        "url": url,
        "database_url": postgres.url("postgres"),
        "superuser_url": postgres.url("supabase_admin"),
        "publishable_key": keys.publishable_key,
        "secret_key": keys.secret_key,
        "jwt_secret": keys.jwt_secret,
        "anon_jwt": keys.anon_jwt,
        "service_role_jwt": keys.service_role_jwt,
        "pid": os.getpid(),
    }
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(contents, file, indent=2)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description="Start one embedded Supabase.")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds everything")
    parser.add_argument("--port", type=int, help="default: as last time, else 54321 or any free one; 0: any free one")
    parser.add_argument("--postgres-version", type=int, choices=(16, 18), default=18)
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when the starting process ends")
    return parser.parse_args()


def _exit_cleanly(signal_number: int, frame: object) -> None:
    """Uvicorn has handlers of its own while it serves, and sends itself the signal again when it is done."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
