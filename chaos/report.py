"""What is printed: one line for each part, and below it whatever went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaos.checks import Harm
from chaos.lane import Outcome
from chaos.long_run import LongRunReport


def report_line(part: str, *, faults: int, lost: int, double_billed: int, zombies: int, recovery_s: float) -> str:
    return (
        f"{part}: {faults} faults injected, {lost} lost, {double_billed} double-billed, {zombies} zombie writes, "
        f"worst recovery {recovery_s:.1f} s"
    )


def lines_of_cases(part: str, outcomes: Sequence[Outcome]) -> list[str]:
    struck = [outcome for outcome in outcomes if outcome.was_struck]
    missed = [outcome for outcome in outcomes if not outcome.was_struck]
    total = {harm: sum(outcome.count(harm) for outcome in outcomes) for harm in Harm}
    slowest = max(struck, key=lambda outcome: outcome.recovery_s, default=None)
    lines = [
        report_line(
            part,
            faults=len(struck),
            lost=total[Harm.LOST],
            double_billed=total[Harm.DOUBLE_BILLED],
            zombies=total[Harm.ZOMBIE_WRITE],
            recovery_s=slowest.recovery_s if slowest else 0.0,
        )
    ]
    if slowest:
        lines.append(f"  the slowest: {slowest.case}")
    if total[Harm.OTHER]:
        lines.append(f"  {total[Harm.OTHER]} other promises broken")
    lines += [f"  not reached: {outcome.case}" for outcome in missed]
    lines += [f"  {outcome.case}: {violation}" for outcome in outcomes for violation in outcome.violations]
    return lines


def lines_of_long_run(part: str, report: LongRunReport) -> list[str]:
    return [
        report_line(
            part,
            faults=report.faults,
            lost=report.count(Harm.LOST),
            double_billed=report.count(Harm.DOUBLE_BILLED),
            zombies=report.count(Harm.ZOMBIE_WRITE),
            recovery_s=report.slowest_s,
        ),
        f"  {report.statuses.total()} products accepted: {_counted(report.statuses.items())}",
        *([f"  failed of: {_counted(report.failures.items())}"] if report.failures else []),
        f"  disasters: {_counted(report.disasters.items())}",
        f"  {report.extra_purchases} purchases repeated because an answer was lost; "
        f"{report.peak_memory_mb:.0f} MB at most in a worker",
        *(f"  {product_id}: {violation}" for product_id, violation in report.violations),
    ]


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts)
