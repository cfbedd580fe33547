"""The waterfall of a trace as an SVG picture, and a trace as one self-contained HTML file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from ..backends.summaries import summarize
from ..rows import Row
from . import words
from .payload_text import readable
from .waterfall import WIDTH, Bar, Waterfall, lay_out

__all__ = ["to_html", "to_svg"]

_ROW, _LEFT, _RIGHT, _TOP = 24, 380, 90, 64
_LETTERS = 46
_MOST_BARS = 5_000
_COLOURS = {
    "ok": "#1a7f4b", "error": "#c0232c", "timed_out": "#a8480b", "terminated": "#8038b0", "abandoned": "#8038b0",
    "in_progress": "#8a6100", "unknown": "#57606a",
}


def to_svg(rows: Sequence[Row], root_span_id: str) -> str:
    """The waterfall as an SVG document. It refers to nothing outside of itself."""
    fall = lay_out(rows, root_span_id, time.time())
    (trace,) = summarize(rows)
    bars = fall.bars[:_MOST_BARS]
    width, height = _LEFT + WIDTH + _RIGHT, _TOP + _ROW * len(bars) + 12
    outcome = "in progress" if trace.in_progress else trace.outcome or "unknown"
    about = f"{outcome}, {words.duration(fall.seconds)}, {trace.spans} spans"
    if len(bars) < len(fall.bars):
        about += f" (the first {len(bars)} are shown)"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{_text(trace.name, 200)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="16" font-weight="600" fill="#1b1f24">{_text(trace.name, 120)}</text>',
        f'<text x="{_LEFT}" y="24" fill="#57606a">{_text(about, 120)}</text>',
        *_axis(fall, height),
    ]
    for number, bar in enumerate(bars):
        lines += _bar(bar, _TOP + _ROW * number)
    return "\n".join([*lines, "</svg>", ""])


def to_html(rows: Sequence[Row], root_span_id: str) -> str:
    """A page with the waterfall and what each span holds, in one file without scripts.

    Needs the extra ``ui``.
    """
    from .app import span_panel, templates

    now = time.time()
    fall = lay_out(rows, root_span_id, now)
    (trace,) = summarize(rows)
    by_id = {row.get("span_id"): row for row in rows}
    panels: list[Any] = [span_panel(root_span_id, by_id[bar.span.span_id], bar) for bar in fall.bars]
    style = files("trace_guard.ui").joinpath("static/page.css").read_text("utf-8")
    return templates().get_template("report.html").render(
        trace=trace, fall=fall, now=now, panels=panels, style=style, address=None,
    )


def _axis(fall: Waterfall, height: int) -> list[str]:
    lines = []
    for x, seconds in fall.ticks():
        lines.append(f'<line x1="{_LEFT + x}" y1="{_TOP - 8}" x2="{_LEFT + x}" y2="{height - 8}" stroke="#d9dde3"/>')
        lines.append(
            f'<text x="{_LEFT + x}" y="{_TOP - 14}" text-anchor="middle" font-size="11" fill="#57606a">'
            f"{words.duration(seconds)}</text>"
        )
    return lines


def _bar(bar: Bar, y: int) -> list[str]:
    span = bar.span
    colour = _COLOURS[words.outcome_class(span.outcome, span.end is None)]
    depth = min(span.depth, 12)
    indent, letters = 12 + 14 * depth, _LETTERS - 2 * depth
    weight = ' font-weight="600"' if bar.critical else ""
    x = _LEFT + min(bar.x, WIDTH - bar.width)
    about = f"{words.duration(span.duration)}" if span.end is not None else "in progress"
    if span.closed_by:
        about += f", closed by {span.closed_by}"
    lines = [
        f'<text x="{indent}" y="{y + 15}"{weight} fill="#1b1f24">{_text(span.name, letters)}</text>',
        f'<rect x="{x}" y="{y + 4}" width="{bar.width}" height="13" rx="2" fill="{colour}">'
        f"<title>{_text(span.name, 200)}: {_text(about, 100)}</title></rect>",
    ]
    lines += [
        f'<rect x="{_LEFT + gap.x}" y="{y + 8}" width="{gap.width}" height="5" fill="#ffffff" opacity="0.55"/>'
        for gap in bar.gaps
    ]
    beside = x + bar.width + 6
    if beside < _LEFT + WIDTH:
        lines.append(f'<text x="{beside}" y="{y + 15}" font-size="11" fill="#57606a">{_text(about, 60)}</text>')
    return lines


def _text(text: str, most: int) -> str:
    """A text for SVG, which is XML and knows no control characters."""
    shown = readable(text).replace("\n", " ")
    return escape(shown if len(shown) <= most else f"{shown[: most - 1]}…")
