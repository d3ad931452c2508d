"""The one folder that holds everything local (`.vitrine/`): where what lies, and the few values kept in it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import ports

ROOT = Path(__file__).parent.parent
DEFAULT_FOLDER = ROOT / ".vitrine"
PORTS_TRIED = 100


@dataclass(frozen=True, slots=True)
class DataFolder:
    path: Path

    @property
    def supabase(self) -> Path:
        return self.path / "supabase"

    @property
    def postgres(self) -> Path:
        """Where the embedded Supabase keeps its Postgres."""
        return self.supabase / "postgres"

    @property
    def sandbox(self) -> Path:
        return self.path / "sandbox"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Held while a Vitrine runs in this folder; says which processes it has started."""
        return self.path / "running.lock"

    @property
    def ready(self) -> Path:
        """There while everything runs: the addresses, as JSON."""
        return self.path / "ready.json"

    def create(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)

    def api_key(self) -> str:
        """The key made on the first start."""
        file = self.path / "api_key"
        if not file.exists():
            write_private(file, f"vt_{secrets.token_urlsafe(24)}")
        return file.read_text().strip()

    def port(self, name: str, default: int) -> int:
        """The port of the first start (the default if it was free then); while others have it, the next free one."""
        file = self.path / f"{name}_port"
        wanted = int(file.read_text()) if file.exists() else default
        port = ports.take(range(wanted, wanted + PORTS_TRIED))
        if not file.exists():
            file.write_text(str(port))
        return port

    def sample_product_id(self) -> str | None:
        file = self.path / "sample_product_id"
        return file.read_text().strip() if file.exists() else None

    def keep_sample_product_id(self, product_id: str) -> None:
        (self.path / "sample_product_id").write_text(product_id)

    def write_ready(self, addresses: Mapping[str, Any]) -> None:
        """Whole or not at all: others poll for it."""
        unfinished = self.ready.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(addresses, indent=2))
        unfinished.replace(self.ready)

    def read_ready(self) -> dict[str, Any] | None:
        try:
            addresses: dict[str, Any] = json.loads(self.ready.read_text())
        except FileNotFoundError:
            return None
        return addresses


def write_private(path: Path, text: str) -> None:
    """Only for its owner's eyes, from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
