"""Tables and targets: printed as they are made, and kept as Markdown for the docs."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Report", "milliseconds", "percentile"]


class Report:
    """What one part of the benchmarks shows.

    Attributes:
        markdown: the same as printed.
    """

    def __init__(self) -> None:
        self.markdown = ""

    def table(self, title: str, columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> None:
        """One row for each label; a float has one decimal place."""
        lines = {label: [_text(cell) for cell in cells] for label, cells in rows.items()}
        first = max(map(len, lines)) + 2
        widths = [max(map(len, column)) + 2 for column in zip(columns, *lines.values(), strict=True)]
        print(title)
        for label, cells in {"": columns, **lines}.items():
            print(f"{label:{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
        print(flush=True)
        self.markdown += f"| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n"
        self.markdown += "".join(f"| {label} | {' | '.join(cells)} |\n" for label, cells in lines.items()) + "\n"

    def targets(self, *targets: tuple[str, float, str, float]) -> None:
        """Each target with its name, what was measured, ``at most`` or ``at least``, and the limit."""
        self.markdown += "| target | limit | measured | |\n|---|---|---|---|\n"
        for name, measured, way, limit in targets:
            met = measured <= limit if way == "at most" else measured >= limit
            verdict = "met" if met else "not met"
            print(f"    {name}: {measured:.2f}, {way} {limit:g}: {verdict}")
            self.markdown += f"| {name} | {way} {limit:g} | {measured:.2f} | {verdict} |\n"
        print(flush=True)
        self.markdown += "\n"

    def note(self, text: str) -> None:
        print(f"    {text}\n", flush=True)
        self.markdown += f"{text}\n\n"

    def write(self, page: Path, part: str) -> None:
        """Replace what stands between the part's markers.

        Raises:
            ValueError: the page has no such markers.
        """
        begin, end = f"<!-- bench: {part} -->\n", "<!-- end -->\n"
        text, count = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _: f"{begin}{self.markdown.rstrip()}\n{end}", page.read_text(), flags=re.DOTALL,
        )
        if not count:
            raise ValueError(f"{page} has no {begin.strip()}")
        page.write_text(text)


def milliseconds(seconds: Sequence[float]) -> float:
    """The median."""
    return statistics.median(seconds) * 1000


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    if len(seconds) < 2:
        return seconds[0] * 1000
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def _text(cell: object) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
