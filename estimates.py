"""What a run would cost, step by step, with the prices and hashes that the engine uses. Nothing is written or sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from config import Settings
from domain import Capability, ImageModel, ImageRequest, RunSpec, StoredObject
from planning import input_hash, plan_run
from recipes import UPLOAD

#: The finished steps among those with these input hashes.
FindFinished = Callable[[Sequence[str]], Awaitable[Mapping[str, StoredObject]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is known of a picture that a step takes."""

    sha256: str | None  #: None: it is not made yet, so nothing made of it can be finished either
    width: int  #: pixels; of a picture that is not made yet, those of what it is made of
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    step: str
    provider: str  #: the first choice; where it takes nothing, another one may be asked at its price
    model: str
    price_micros: int  #: 0 when it is reused
    reused: bool


async def estimate_steps(
    spec: RunSpec,
    upload: Source,
    *,
    settings: Settings,
    models: Mapping[Capability, Sequence[ImageModel]],
    find_finished: FindFinished,
) -> list[StepEstimate]:
    """The steps that a run would take, in their order.

    Raises:
        ConfigError: The run cannot be planned here.
    """
    to_do = plan_run(spec, settings).to_do
    pictures = {UPLOAD: upload}
    estimates: dict[str, StepEstimate] = {}
    while ready := [step for step in to_do if step.takes in pictures and step.name not in estimates]:
        hashes = {
            step.name: [input_hash(spec, step, source.sha256, model) for model in models[step.capability]]
            for step in ready
            if (source := pictures[step.takes]).sha256 is not None
        }
        finished = await find_finished([each for of_step in hashes.values() for each in of_step]) if hashes else {}
        for step in ready:
            source, model = pictures[step.takes], models[step.capability][0]
            found = [finished[each] for each in hashes.get(step.name, []) if each in finished]
            request = ImageRequest(
                capability=step.capability, prompt=step.prompt, source=None, width=source.width, height=source.height
            )
            estimates[step.name] = StepEstimate(
                step=step.name,
                provider=model.provider,
                model=model.model,
                price_micros=0 if found else model.price_micros(request),
                reused=bool(found),
            )
            pictures[step.name] = (
                Source(sha256=found[0].sha256, width=found[0].width, height=found[0].height)
                if found
                else Source(sha256=None, width=source.width, height=source.height)
            )
    return [estimates[step.name] for step in to_do]
