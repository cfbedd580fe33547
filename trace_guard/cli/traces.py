"""``trace-guard traces`` and ``trace-guard show``: print the local store."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence

from ..backends.local import LocalStore
from ..backends.summaries import SpanSummary, TraceSummary, one_line, summarize
from ..journal.directory import STORE_NAME, locate
from ..redaction.outside_text import print_error
from ..settings import Settings
from .tables import Cell, Column, Styled, lines_of, print_table, say, terminal
from .words import clock, duration, outcome

__all__ = ["list_traces", "print_traces", "show_trace"]

_SHORT = 8
_BAR_WIDTH, _BAR_PLACE = 16, 4
# A terminal with so many characters in a line has room for bars.
_WIDE = 120
_MOST_CANDIDATES = 10


def list_traces(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the newest traces as a table, or as ``{"traces": [...]}``; see :class:`TraceSummary`."""
    store = LocalStore(locate(settings.dir) / STORE_NAME)
    traces = store.traces(arguments.limit, arguments.project)
    if arguments.json:
        print(json.dumps({"traces": [trace.to_json() for trace in traces]}))
    elif traces:
        print_traces(traces)
    else:
        print_error(_nothing(store, settings, arguments.project))
    return 0


def show_trace(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print one trace as a tree of spans, or as ``{"trace": {...}, "spans": [...]}``; see
    :class:`trace_guard.backends.summaries.SpanSummary`."""
    store = LocalStore(locate(settings.dir) / STORE_NAME)
    roots = store.find_root(arguments.root)
    if len(roots) != 1:
        print_error(_not_one(arguments.root, roots, store))
        return 1
    if arguments.svg or arguments.html:
        from .page import write_pictures

        write_pictures(store.rows(roots[0]), roots[0], arguments.svg, arguments.html)
        return 0
    (trace,) = summarize(store.rows(roots[0]))
    spans = store.spans(roots[0])
    if arguments.json:
        print(json.dumps({"trace": trace.to_json(), "spans": [span.to_json() for span in spans]}))
    else:
        _print_trace(trace, spans)
        if arguments.payloads:
            _print_payloads(spans)
        elif terminal() is not None:
            say("--payloads shows inputs, outputs, metadata and errors in full", "dim")
    return 0


def print_traces(traces: Sequence[TraceSummary]) -> None:
    """Print a table of traces. Each id is cut to a prefix that ``show`` accepts."""
    columns = (
        Column("root"), Column("started"), Column("took", right=True), Column("project", folds=True),
        Column("name", folds=True), Column("outcome"), Column("spans", right=True, spare=True),
        Column("error", below=True),
    )
    length = _unique_length([trace.root_span_id for trace in traces])
    print_table(columns, [
        (
            Styled(trace.root_span_id[:length], "cyan"),
            clock(trace.start),
            duration(_took(trace)),
            trace.project or "-",
            trace.name,
            _outcome(trace),
            Styled(f"{trace.open_spans} of {trace.spans} open", "yellow") if trace.open_spans else str(trace.spans),
            trace.error or "",
        )
        for trace in traces
    ])


def _print_trace(trace: TraceSummary, spans: Sequence[SpanSummary]) -> None:
    say(f"{trace.name}  {trace.root_span_id}", style="bold")
    facts = [_outcome(trace).text, f"started {clock(trace.start)}"]
    if _took(trace) is not None:
        facts.append(f"took {duration(_took(trace))}")
    if trace.project:
        facts.append(f"project {trace.project}")
    say(", ".join(facts))
    columns = [
        Column("span", folds=True), Column("type", spare=True), Column("begins", right=True),
        Column("took", right=True), Column("outcome"), Column("closed by", folds=True), Column("error", below=True),
    ]
    rows: list[tuple[Cell, ...]] = [
        (branch + span.name, span.type or "-", _offset(trace, span), duration(span.duration), *_how(span))
        for branch, span in zip(_branches([span.depth for span in spans]), spans, strict=True)
    ]
    if any(span.opened_at for span in spans):
        columns.append(Column("started at", below=True))
        rows = [(*row, span.opened_at or "") for row, span in zip(rows, spans, strict=True)]
    if sys.stdout.isatty() and shutil.get_terminal_size().columns >= _WIDE:
        columns.insert(_BAR_PLACE, Column("time"))
        rows = [(*row[:_BAR_PLACE], bar, *row[_BAR_PLACE:]) for row, bar in zip(rows, _bars(spans), strict=True)]
    print_table(columns, rows)


def _bars(spans: Sequence[SpanSummary]) -> Iterator[str]:
    """When each span ran: a bar on the time axis of the trace. An open span runs until now."""
    full, empty = ("\N{FULL BLOCK}", "\N{MIDDLE DOT}") if _can_print("\N{FULL BLOCK}\N{MIDDLE DOT}") else ("#", ".")
    starts = [span.start for span in spans if span.start is not None]
    now = time.time()
    start, end = min(starts, default=now), max((now if span.end is None else span.end for span in spans), default=now)
    scale = _BAR_WIDTH / max(end - start, 1e-9)
    for span in spans:
        began = span.start if span.start is not None else start
        first = min(max(int((began - start) * scale), 0), _BAR_WIDTH - 1)
        last = round(((now if span.end is None else span.end) - start) * scale)
        length = min(max(last - first, 1), _BAR_WIDTH - first)
        yield empty * first + full * length + empty * (_BAR_WIDTH - first - length)


def _print_payloads(spans: Sequence[SpanSummary]) -> None:
    """Print everything that each span has logged."""
    for span in spans:
        say("")
        say(f"{span.name}  {span.span_id}", style="bold")
        for name in ("input", "output", "metadata", "error"):
            value = getattr(span, name)
            if value is not None:
                say(f"  {name}", style="cyan")
                text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
                for line in lines_of(text, "    "):
                    print(line)


def _outcome(trace: TraceSummary) -> Styled:
    """How a trace ended. A job that is ok tells of the steps that failed."""
    shown = outcome(trace.outcome, trace.in_progress)
    if trace.failed_parts and not trace.in_progress:
        style = "yellow" if trace.outcome == "ok" else shown.style
        return Styled(f"{shown.text} ({trace.failed_parts} of {trace.parts} failed)", style)
    return shown


def _how(span: SpanSummary) -> tuple[Cell, Cell, Cell]:
    """How a span ended, what closed it, and its error."""
    if span.end is None:
        return outcome(span.outcome, in_progress=True), "-", one_line(span.error) or ""
    by = f"{span.closed_by}: {span.reason}" if span.reason else span.closed_by
    closed_by = Styled(by, "yellow") if by else Styled("its own code", "dim")
    return outcome(span.outcome), closed_by, one_line(span.error) or ""


def _branches(depths: Sequence[int]) -> list[str]:
    """The lines to draw before each span of a tree, given the depths of the spans in order."""
    tee, corner, bar = ("├─ ", "└─ ", "│  ") if _can_print("├─└│") else ("|- ", "`- ", "|  ")
    drawn: list[str] = []
    # The levels at which a sibling follows. They are known when reading from the end.
    later: set[int] = set()
    for depth in reversed(depths):
        later = {level for level in later if level <= depth}
        if depth:
            bars = "".join(bar if level in later else "   " for level in range(1, depth))
            drawn.append(bars + (tee if depth in later else corner))
            later.add(depth)
        else:
            drawn.append("")
            later.clear()
    return drawn[::-1]


def _can_print(letters: str) -> bool:
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _took(trace: TraceSummary) -> float | None:
    return None if trace.start is None or trace.end is None else trace.end - trace.start


def _offset(trace: TraceSummary, span: SpanSummary) -> str:
    return "-" if trace.start is None or span.start is None else f"+{duration(max(0.0, span.start - trace.start))}"


def _unique_length(ids: Sequence[str]) -> int:
    """The length of the shortest unique prefixes of these ids."""
    length = _SHORT
    while len({span_id[:length] for span_id in ids}) < len(set(ids)):
        length += 1
    return length


def _nothing(store: LocalStore, settings: Settings, project: str | None) -> str:
    of_project = f" of the project {project!r}" if project else ""
    if not store.path.exists() and settings.backend_name == "braintrust":
        return (
            f"no traces{of_project}: there is no local store {store.path}. BRAINTRUST_API_KEY is set, so traces go "
            "to Braintrust; `trace-guard status` shows what is not delivered yet"
        )
    return f"no traces{of_project} in {store.path}; --dir or TRACE_GUARD_DIR names another directory"


def _not_one(root: str, roots: Sequence[str], store: LocalStore) -> str:
    if not roots:
        return f"no trace in {store.path} begins with {root!r}: `trace-guard traces` lists all traces"
    shown = ", ".join(roots[:_MOST_CANDIDATES]) + (", ..." if len(roots) > _MOST_CANDIDATES else "")
    return f"{root!r} matches more than one trace; give more characters: {shown}"
