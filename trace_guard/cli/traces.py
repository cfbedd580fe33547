"""``trace-guard traces`` and ``trace-guard show``: what the local store has."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ..backends.local import LocalStore
from ..backends.summaries import SpanSummary, TraceSummary, summarize
from ..journal.directory import STORE_NAME, locate
from ..redaction.outside_text import print_error
from ..settings import Settings
from .tables import Cell, Column, Styled, print_table, say
from .words import clock, duration, outcome

__all__ = ["list_traces", "print_traces", "show_trace"]

_SHORT = 8
_MOST_CANDIDATES = 10


def list_traces(arguments: argparse.Namespace, settings: Settings) -> int:
    """The newest traces as a table, or as ``{"traces": [...]}``; see :class:`TraceSummary`."""
    store = LocalStore(locate(settings.dir) / STORE_NAME)
    traces = store.traces(arguments.limit, arguments.project)
    if arguments.json:
        print(json.dumps({"traces": [trace.to_json() for trace in traces]}))
    elif traces:
        print_traces(traces)
    else:
        print_error(_nothing(store, settings, arguments.project), prefix="")
    return 0


def show_trace(arguments: argparse.Namespace, settings: Settings) -> int:
    """One trace as a tree of spans, or as ``{"trace": {...}, "spans": [...]}``; see
    :class:`trace_guard.backends.summaries.SpanSummary`."""
    store = LocalStore(locate(settings.dir) / STORE_NAME)
    roots = store.find_root(arguments.root)
    if len(roots) != 1:
        print_error(_not_one(arguments.root, roots, store))
        return 1
    (trace,) = summarize(store.rows(roots[0]))
    spans = store.spans(roots[0])
    if arguments.json:
        print(json.dumps({"trace": trace.to_json(), "spans": [span.to_json() for span in spans]}))
    else:
        _print_trace(trace, spans)
    return 0


def print_traces(traces: Sequence[TraceSummary]) -> None:
    """Print a table of traces, each with as much of its id as ``show`` needs."""
    columns = (
        Column("root"), Column("started"), Column("took", right=True), Column("project", folds=True),
        Column("name", folds=True), Column("outcome"), Column("spans", right=True), Column("error", folds=True),
    )
    length = _telling_length([trace.root_span_id for trace in traces])
    print_table(columns, [
        (
            Styled(trace.root_span_id[:length], "cyan"),
            clock(trace.start),
            duration(_took(trace)),
            trace.project or "-",
            trace.name,
            outcome(trace.outcome, trace.in_progress),
            Styled(f"{trace.open_spans} of {trace.spans} open", "yellow") if trace.open_spans else str(trace.spans),
            trace.error or "",
        )
        for trace in traces
    ])


def _print_trace(trace: TraceSummary, spans: Sequence[SpanSummary]) -> None:
    say(f"{trace.name}  {trace.root_span_id}", style="bold")
    facts = [outcome(trace.outcome, trace.in_progress).text, f"started {clock(trace.start)}"]
    if _took(trace) is not None:
        facts.append(f"took {duration(_took(trace))}")
    if trace.project:
        facts.append(f"project {trace.project}")
    say(", ".join(facts))
    columns = (
        Column("span"), Column("type"), Column("begins", right=True), Column("took", right=True), Column("outcome"),
        Column("closed by"), Column("error", folds=True),
    )
    print_table(columns, [
        (branch + span.name, span.type or "-", _offset(trace, span), duration(span.duration), *_how(span))
        for branch, span in zip(_branches([span.depth for span in spans]), spans, strict=True)
    ])


def _how(span: SpanSummary) -> tuple[Cell, Cell, Cell]:
    """How a span ended, who closed it if its own code did not, and its error."""
    if span.end is None:
        return outcome(span.outcome, in_progress=True), "-", span.error or ""
    by = f"{span.closed_by}: {span.reason}" if span.reason else span.closed_by
    closed_by = Styled(by, "yellow") if by else Styled("its own code", "dim")
    return outcome(span.outcome), closed_by, span.error or ""


def _branches(depths: Sequence[int]) -> list[str]:
    """What to draw before the name of each span of a tree, which is given in order by the depths of its spans."""
    tee, corner, bar = ("├─ ", "└─ ", "│  ") if _can_print("├─└│") else ("|- ", "`- ", "|  ")
    drawn: list[str] = []
    # Read from the end: whether a span has a later sibling is known once those below it have been seen.
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


def _telling_length(ids: Sequence[str]) -> int:
    """How many first characters tell these ids apart."""
    length = _SHORT
    while len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return length


def _nothing(store: LocalStore, settings: Settings, project: str | None) -> str:
    of_project = f" of the project {project!r}" if project else ""
    if not store.path.exists() and settings.backend_name == "braintrust":
        return (
            f"no traces{of_project}: there is no local store {store.path}. BRAINTRUST_API_KEY is set, so traces go "
            "to Braintrust; `trace-guard status` tells what has not been delivered yet"
        )
    return f"no traces{of_project} in {store.path}; --dir or TRACE_GUARD_DIR names another directory"


def _not_one(root: str, roots: Sequence[str], store: LocalStore) -> str:
    if not roots:
        return f"no trace in {store.path} begins with {root!r}: `trace-guard traces` lists those there are"
    shown = ", ".join(roots[:_MOST_CANDIDATES]) + (", ..." if len(roots) > _MOST_CANDIDATES else "")
    return f"{root!r} begins more than one trace: give more characters of one of {shown}"
