"""One picture of the results, as SVG: efficiency by concurrency, and what a claim costs by queue length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import efficiency, median
from bench.report import rounds_of, sizes_of
from bench.results import Results
from bench.throughput import CONTENDERS

COLOURS = ("#888888", "#1b9e77", "#7570b3", "#e6ab02", "#d95f02")
WIDTH, HEIGHT = 420, 300  # pixels, of one panel
LEFT, RIGHT, TOP, BOTTOM = 52, 30, 34, 46  # margins inside it
LEGEND_STEP = 16

Line = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    across: str
    lines: Mapping[str, Line]
    top: float  #: the greatest value shown
    ticks: Sequence[float]  #: across

    def draw(self, offset: int) -> list[str]:
        plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        least, greatest = math.log10(self.ticks[0]), math.log10(self.ticks[-1])

        def place(across: float, up: float) -> tuple[float, float]:
            share = (math.log10(across) - least) / ((greatest - least) or 1)
            return offset + LEFT + share * plot_width, TOP + (1 - up / self.top) * plot_height

        parts = [_text(offset + LEFT, 20, self.title, weight="bold")]
        for step in range(6):
            value = self.top * step / 5
            _, y = place(self.ticks[0], value)
            parts.append(f'<path d="M{offset + LEFT} {y:.1f}h{plot_width}" stroke="#ddd"/>')
            parts.append(_text(offset + LEFT - 6, y + 4, f"{value:.2g}", anchor="end"))
        for tick in self.ticks:
            x, _ = place(tick, 0)
            parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{tick:,.0f}", anchor="middle"))
        parts.append(_text(offset + LEFT + plot_width / 2, HEIGHT - 8, self.across, anchor="middle"))
        for (name, points), colour in zip(self.lines.items(), COLOURS, strict=False):
            placed = [place(across, up) for across, up in points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
            if len(self.lines) > 1:
                y = TOP + 14 + LEGEND_STEP * list(self.lines).index(name)
                x = offset + WIDTH - RIGHT
                parts.append(_text(x, y, name, anchor="end", colour=colour, weight="bold"))
        return parts


def plot(results: Results) -> str:
    panels = [_efficiency_panel(results), _claim_panel(results)]
    parts = [part for number, panel in enumerate(panels) for part in panel.draw(number * WIDTH)]
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _efficiency_panel(results: Results) -> Panel:
    largest: dict[int, int] = {}  # of each concurrency, the most products
    for products, concurrency in sizes_of(results.rounds):
        largest[concurrency] = max(products, largest.get(concurrency, 0))
    lines = {}
    for contender in CONTENDERS:
        points = []
        for concurrency, products in sorted(largest.items()):
            rounds = rounds_of(results.rounds, contender, products, concurrency)
            if rounds:
                wall_s = median([each.wall_s for each in rounds])
                points.append((float(concurrency), efficiency(products, concurrency, wall_s)))
        if points:
            lines[contender] = points
    return Panel(
        title="Efficiency (1: the providers' latency alone)",
        across="products at once",
        lines=lines,
        top=1.0,
        ticks=sorted(largest),
    )


def _claim_panel(results: Results) -> Panel:
    points = [(float(each.queued), each.p50_ms) for each in results.claims if not each.finished]
    top = 2 ** math.ceil(math.log2(max(value for _, value in points)))
    return Panel(
        title="A claim of ten runs, ms (p50)",
        across="runs queued",
        lines={"claim": points},
        top=float(top),
        ticks=[queued for queued, _ in points],
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#333", weight: str = "normal") -> str:
    words = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">{words}</text>'
