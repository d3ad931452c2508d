"""What all parts of the running sandbox share, and the life of one call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from sandbox import fingerprint
from sandbox.behaviour import Behaviour, Provider
from sandbox.delivery import Delivery
from sandbox.faults import Fault, Moment, parse_fault, split_marker
from sandbox.invoice import Invoice, Line
from sandbox.pool import PicturePool
from sandbox.ready_made import ready_made
from sandbox.rules import RuleBook
from sandbox.work import PictureJob

FAULT_HEADER = "x-sandbox-fault"


class Sandbox:
    def __init__(self, *, data_dir: Path, seed: int, behaviour: Behaviour) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.seed = seed
        self.behaviour = behaviour
        self.rules = RuleBook(chance=random.Random(seed))  # noqa: S311  repeatable on purpose
        self.invoice = Invoice(data_dir / "invoice.jsonl")
        self.stopping = asyncio.Event()
        self._pool = PicturePool()

    def open_call(self, request: Request, provider: Provider, operation: str, prompt: str | None) -> Call:
        """A new line in the invoice, and the fault this call meets: by header, by marker in the prompt, or by rule.

        Raises:
            FaultSyntaxError: The header or the marker asks for something that does not exist.
        """
        words, marked = split_marker(prompt) if prompt is not None else (None, None)
        header = request.headers.get(FAULT_HEADER)
        asked = parse_fault(header) if header is not None else marked
        fault = asked or self.rules.fault_for(provider, operation, prompt)
        line = self.invoice.open_line(provider, operation, f"rsid-{secrets.token_hex(8)}", prompt)
        if fault is not None:
            self.invoice.note(line, fault=str(fault))
        return Call(sandbox=self, line=line, fault=fault, prompt=words)

    def accepts_key(self, provider: Provider, request: Request) -> bool:
        """True for `Authorization: Bearer <key>` with a key that the behaviour allows."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        allowed = self.behaviour.keys.get(provider)
        return scheme.lower() == "bearer" and bool(key) and (allowed is None or key in allowed)

    def credits_left(self, provider: Provider) -> int:
        return self.behaviour.credits.get(provider, 0) - self.invoice.credits_spent(provider)

    async def make(self, job: PictureJob, line: Line | None) -> bytes:
        """Do the picture work that `line` bought, for as long as the behaviour says at least.

        Raises:
            UnreadableSourceError
        """
        least = sum(self.behaviour.latency.get(work, 0.0) for work in job.works)
        clock = asyncio.get_running_loop().time
        due = clock() + least
        picture = ready_made(job) if self.behaviour.ready_made else await self._pool.perform(job, self._seed_for(line))
        with contextlib.suppress(TimeoutError):  # at a stop nobody waits for show
            await asyncio.wait_for(self.stopping.wait(), due - clock())
        return picture

    def _seed_for(self, line: Line | None) -> int:
        """From words, picture, and how often they came before: runs can be repeated, and asking again gives another."""
        if line is None:  # the invoice was cleared meanwhile
            return self.seed
        text = f"{self.seed}:{line.prompt}:{line.picture}:{self.invoice.occurrence(line)}"
        return int(fingerprint.of_text(text)[:8], 16)

    def abandon_work(self) -> None:
        """Kill the picture work that is going on; its calls end with an error."""
        self._pool.stop()

    def close(self) -> None:
        self._pool.stop()
        self.invoice.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request from the product, from its arrival to its answer."""

    sandbox: Sandbox
    line: Line
    fault: Fault | None
    prompt: str | None  #: without a fault marker

    def fault_at(self, moment: Moment) -> Fault | None:
        return self.fault if self.fault is not None and self.fault.moment is moment else None

    def accept(self, *, work: str, credit_count: int, task_id: str | None = None) -> None:
        changes = {} if task_id is None else {"task_id": task_id}
        self.sandbox.invoice.accept(self.line, work=work, credit_count=credit_count, **changes)

    def deliver(self, answer: Response) -> Delivery:
        return Delivery(
            answer,
            line=self.line,
            invoice=self.sandbox.invoice,
            fault=self.fault,
            stopping=self.sandbox.stopping,
        )
