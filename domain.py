"""The product's own words as frozen values: ids, states, and what a model is asked and answers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType, Protocol
from uuid import UUID

ProductId = NewType("ProductId", UUID)
RunId = NewType("RunId", UUID)
CallId = NewType("CallId", UUID)
LeaseToken = NewType("LeaseToken", UUID)
TaskId = NewType("TaskId", str)
ObjectKey = NewType("ObjectKey", str)

MICROS_PER_USD = 1_000_000


class Status(StrEnum):
    """Of a run, and of the product while that run is its latest."""

    PENDING = "pending"  # waits for a worker -> processing, cancelled
    PROCESSING = "processing"  # a worker holds the lease -> completed, failed, cancelled, pending (handed back)
    COMPLETED = "completed"  # final; at least one picture was made
    FAILED = "failed"  # final; nothing new to show, `error_message` says why
    CANCELLED = "cancelled"  # final; the user stopped it


class Capability(StrEnum):
    """What a model can be asked for; each has its own ordered list of providers in the settings."""

    REMOVE_BACKGROUND = "remove_background"
    GENERATE = "generate"
    COLOURISE = "colourise"
    RESTORE = "restore"


class RecoversBy(StrEnum):
    """How the answer of a paid request can be had after the worker that sent it has died."""

    TASK_ID = "task_id"  # ask for the task again
    IDEMPOTENCY_KEY = "idempotency_key"  # send the same request again; it is not charged twice
    NOTHING = "nothing"  # the answer is lost


class SceneMode(StrEnum):
    LOCKED = "locked"  # only the background is made; the product's own pixels are laid on top
    REIMAGINED = "reimagined"  # the model draws a new view of the product


class SourcePicture(Protocol):
    """A stored picture that a model works on, by bytes or by link, whichever its API takes."""

    async def read(self) -> bytes:
        """The file, upright, 8 bits a channel, RGB, RGBA or grey, as PNG or JPEG: what every model takes."""
        ...

    async def link(self) -> str:
        """A signed https URL that outlives the task's deadline by an hour. Never to be logged or stored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One question to an image model."""

    capability: Capability
    prompt: str
    source: SourcePicture | None  #: None: a picture from words alone
    width: int | None = None  #: of the source, pixels; a hint for price and aspect ratio
    height: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that was decoded once and found sound."""

    content: bytes  #: the file as it came, metadata stripped, never re-encoded
    media_type: str  #: image/png, image/jpeg or image/webp, by content
    width: int  #: pixels, as shown (orientation applied)
    height: int
    has_alpha: bool  #: at least one pixel is not fully opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswer:
    """One picture from a model, checked, and what the provider says that it cost."""

    picture: Picture
    cost_micros: int | None  #: micro-dollars; None: the provider does not say, so the estimate holds
    request_id: str | None = None
    task_id: TaskId | None = None


class CallProgress(Protocol):
    """How an adapter tells the ledger where a paid call stands."""

    async def sending(self) -> None:
        """To be awaited when everything is prepared, immediately before the paid request leaves.

        It may take long: it waits for a place at the provider. That time is not part of a model's deadline.

        Raises:
            LeaseLostError, ProviderPausedError: Do not send it.
        """
        ...

    async def accepted(self, task_id: TaskId) -> None:
        """To be awaited the moment the provider's task id is known, before any waiting; returns once it is stored."""
        ...


class ImageModel(Protocol):
    """One model API behind one capability. Wrappers (limits, retries) have the same interface.

    All capabilities share this shape, one picture and some words in and one picture out, so one ledger serves them all.
    """

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str:
        """The version asked for on the wire; part of every step's input hash."""
        ...

    @property
    def recovers_by(self) -> RecoversBy: ...

    @property
    def deadline_s(self) -> float:
        """Seconds after which `generate` (`sending` aside) and `resume` have given up for certain."""
        ...

    def price_micros(self, request: ImageRequest) -> int:
        """The estimated price of one call in micro-dollars, reserved before it."""
        ...

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        """Buy one picture.

        Raises:
            RetryableError: Nothing was accepted.
            ChargeUnknownError: It was sent and no verdict came.
            ProviderError: The other kinds say what the caller can do next.
        """
        ...

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        """Wait for a task that was accepted earlier, at no charge. Only where `recovers_by` is TASK_ID."""
        ...


@dataclass(frozen=True, slots=True)
class StoredAt:
    """Where an object lies."""

    bucket: str
    key: ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A picture in Storage. Keys are immutable: what lies under one never changes."""

    bucket: str
    key: ObjectKey
    media_type: str
    sha256: str  #: of the content, 64 hex digits
    width: int  #: pixels, as shown
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceFound:
    """What one turn of maintenance leaves to the worker, and what it did itself."""

    objects: Sequence[StoredAt]  #: to remove, and to confirm then
    low_budgets: Sequence[Mapping[str, Any]]  #: rows of `budgets` of which four fifths are used up, each told once
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneChoice:
    """The scenes that a run makes when it does not make all."""

    keys: frozenset[str]
    prompt: str | None = None  #: instead of the pack's
    remake: int | None = None  #: None: they were missing. Else the number of the run that was first to make them again


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """All that decides what a run makes."""

    recipe: str
    params: Mapping[str, Any]
    pack: str
    generation: int  #: of the scenes
    base_generation: int  #: of cut-out, restore and colourise
    only: SceneChoice | None = None  #: None: all scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun(RunSpec):
    """A run that this worker holds, with what it needs to know of the product."""

    run_id: RunId
    product_id: ProductId
    run_no: int
    attempts: int
    deferrals: int  #: how often it was put off already
    lease_token: LeaseToken
    raw: StoredObject
    raw_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTicket:
    """A row of the ledger: leave to send one request, and where its answer will lie."""

    call_id: CallId
    bucket: str
    key: ObjectKey


@dataclass(frozen=True, slots=True)
class Reuse:
    """The step is finished already: nothing is called."""

    picture: StoredObject


@dataclass(frozen=True, slots=True)
class Buy:
    """Nothing was sent yet: mark the call as sent, then send it."""

    ticket: CallTicket


@dataclass(frozen=True, slots=True)
class Resume:
    """A task was accepted earlier: ask for its result, at no charge."""

    ticket: CallTicket
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Recover:
    """A request was sent by a worker that is gone: its answer is in Storage, or lost."""

    ticket: CallTicket


@dataclass(frozen=True, slots=True)
class Refuse:
    """No further call of this step is allowed in this run."""

    code: str
    message: str


Verdict = Reuse | Buy | Resume | Recover | Refuse
