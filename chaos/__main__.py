"""`python -m chaos`: crash points, single faults, random sequences, a long run. Exit code 1: a promise is broken."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from chaos.cases import Case, crash_points, requests_of, single_faults
from chaos.lane import Outcome, open_lane, play_all
from chaos.long_run import LongRun
from chaos.report import lines_of_cases, lines_of_long_run
from chaos.sequences import STEPS, run_sequences

PARTS = ("crashes", "faults", "sequences", "long")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="vitrine-chaos-") as folder:
        Path(folder).chmod(0o755)  # Postgres may run as a user of its own
        is_sound = asyncio.run(_run(options, Path(folder)))
        if "sequences" in options.parts:
            run_sequences(Path(folder), count=options.sequences)
            _print(
                f"random sequences: {options.sequences} of up to {STEPS} steps, the database as its model after each"
            )
    sys.exit(0 if is_sound else 1)


async def _run(options: argparse.Namespace, folder: Path) -> bool:
    """Whether every promise was kept."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # so that what was started is stopped
    is_sound = True
    if {"crashes", "faults"} & set(options.parts):
        async with open_lane(folder / "clean") as lane:
            clean = await lane.play(Case(cue=None))
        if clean.violations:
            sys.exit(f"A run without any fault breaks promises: {'; '.join(map(str, clean.violations))}")
        requests = requests_of(clean.exchanges)
        _print(f"a clean product: {len(requests)} requests of its worker are struck, one in each run")
        if "crashes" in options.parts:
            is_sound &= await _play("crash points", crash_points(requests), options, folder / "crashes")
        if "faults" in options.parts:
            is_sound &= await _play("single faults", single_faults(requests), options, folder / "faults")
    if "long" in options.parts:
        seed = options.seed
        async with open_lane(folder / "long") as lane:
            report = await LongRun(lane, seed=seed, duration_s=options.minutes * 60).run()
        for line in lines_of_long_run(f"long run ({options.minutes:g} min, seed {seed})", report):
            _print(line)
        is_sound &= not report.violations
    return is_sound


async def _play(part: str, cases: Iterable[Case], options: argparse.Namespace, folder: Path) -> bool:
    chosen = [case for case in list(cases)[:: options.every] if options.only in str(case)]

    def tell(outcome: Outcome) -> None:
        if outcome.violations:
            _print(f"  broken: {outcome.case}")

    outcomes = await play_all(folder / "first", chosen, lanes=options.lanes, tell=tell)
    # What came by the clock may have come too late to be struck: one more try.
    missed = [outcome.case for outcome in outcomes if not outcome.was_struck]
    if missed:
        again = await play_all(folder / "again", missed, lanes=min(options.lanes, len(missed)), tell=tell)
        outcomes = [outcome for outcome in outcomes if outcome.was_struck] + again
    for line in lines_of_cases(part, outcomes):
        _print(line)
    return not any(outcome.violations for outcome in outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--lanes", type=int, default=4, help="cases at once, each with a Supabase of its own")
    parser.add_argument("--every", type=int, default=1, help="only every n-th case of the exhaustive parts")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--sequences", type=int, default=300, help="random sequences of the database functions")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the long run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the long run")
    return parser.parse_args()


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201  what this program is for


if __name__ == "__main__":
    main()
