"""Puts the tables between the marks in `docs/performance.md`, and the plot beside it; other words there stay."""

from __future__ import annotations

from bench.plot import plot
from bench.processes import ROOT
from bench.results import Results

DOCUMENT = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_document(tables: str, results: Results) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has lost its marks")
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables}{END}{after}", encoding="utf-8")
    PLOT.write_text(plot(results), encoding="utf-8")
