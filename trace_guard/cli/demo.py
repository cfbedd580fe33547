"""``trace-guard demo``: runs a guarded function that fails in every way, and shows that no trace stays in progress."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.local import LocalStore
from ..deadline import Deadline
from ..errors import TraceGuardError
from ..journal.directory import STORE_NAME, locate
from ..rows import Row, dump
from ..settings import Settings
from ..system.clock import monotonic
from .tables import Cell, Column, Styled, aligned, say, table, terminal
from .traces import print_traces
from .words import count, outcome

if TYPE_CHECKING:
    from ..backends.summaries import TraceSummary
    from .demo_stage import Act, Observed

__all__ = ["run_demo"]

_COLUMNS = (
    Column("the function", width=22, folds=True),
    Column("its caller got", width=33, folds=True),
    Column("outcome", width=9),
    Column("spans", right=True),
    Column("closed for it", right=True),
    Column("delivery", width=19, folds=True),
    Column("added", right=True, width=7),
)
_KEEP_SECONDS = 10.0
_GOOD = ("delivered", "by the next start", "spooled, sent later")


def run_demo(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run every scenario, print a line for each, and list the traces. Returns 1 if a trace is in progress or
    missing."""
    code = _agent()
    _check_runtime()
    from .demo_stage import ROUND_TRIP, Stage

    began = monotonic()
    say("A support agent runs under AWS's own Lambda runtime client, guarded by @guard_handler alone.", "bold")
    say(f"Its code is {code / 'app.py'}.")
    say(f"Braintrust is simulated on this machine, with a round trip of {ROUND_TRIP * 1000:.0f} ms.")
    say("")
    with Stage(code) as stage:
        display = _Display()
        seen = [display.play(name, act) for name, act in stage.acts()]
        display.close()
        traces, missing = stage.traces(), stage.missing()
        kept = _keep(stage.rows(), locate(settings.dir) / "demo")
    say("")
    say("closed for it: spans that trace-guard closed, as their own code did not", "dim")
    say("added: median extra time that the caller waited, compared with the same function without tracing", "dim")
    say("")
    shown = {observed.trace.root_span_id for observed in seen if observed.trace}
    listed = [trace for trace in traces if trace.root_span_id in shown or trace.in_progress]
    print_traces(listed)
    if len(traces) > len(listed):
        say(f"and {count(len(traces) - len(listed), 'other trace')}, of repeated and intermediate invocations")
    say("")
    code_of_exit = _conclude(traces, missing, monotonic() - began)
    say(f"Look at these traces: trace-guard ui --dir {shlex.quote(str(kept))}")
    return code_of_exit


def _keep(rows: Sequence[Row], directory: Path) -> Path:
    """Keep the rows in a local store, in place of those of an earlier demo."""
    store = LocalStore(directory / STORE_NAME)
    for path in directory.glob(f"{STORE_NAME}*"):
        path.unlink()
    store.send([dump(row) for row in rows], Deadline.after(_KEEP_SECONDS))
    store.close()
    return directory


def _conclude(traces: Sequence[TraceSummary], missing: int, seconds: float) -> int:
    """Print the verdict and return the exit code."""
    in_progress = sum(trace.in_progress for trace in traces)
    failed = bool(in_progress or missing)
    verdict = f"{count(in_progress, 'trace')} in progress" if in_progress else "none in progress"
    if missing:
        verdict += f", {count(missing, 'invocation')} without a trace"
    spans = sum(trace.spans for trace in traces)
    say(
        f"{count(len(traces), 'trace')} with {count(spans, 'span')} on the server: {verdict}. ({seconds:.0f} s)",
        "bold red" if failed else "bold green",
    )
    return 1 if failed else 0


def _row(name: str, seen: Observed) -> tuple[Cell, ...]:
    trace = seen.trace
    return (
        name,
        seen.caller_got,
        outcome(trace.outcome if trace else None, trace is not None and trace.in_progress),
        str(trace.spans if trace else 0),
        Styled(str(seen.closed), "yellow" if seen.closed else "dim"),
        Styled(seen.delivery, "green" if seen.delivery in _GOOD else "bold red"),
        "-" if seen.added is None else f"{seen.added * 1000:.0f} ms",
    )


class _Display:
    """Shows each line as soon as it is known: as a growing table on a terminal, else line by line."""

    def __init__(self) -> None:
        self._rows: list[tuple[Cell, ...]] = []
        self._live: Any = None
        console = terminal()
        if console is not None:
            from rich.live import Live

            self._live = Live(console=console, refresh_per_second=10)
            self._live.start()
        else:
            self._print(header=True)

    def play(self, name: str, act: Act) -> Observed:
        self._draw(name)
        try:
            seen = act()
        except BaseException:
            self.close()
            raise
        self._rows.append(_row(name, seen))
        if self._live is None:
            self._print(header=False)
        return seen

    def close(self) -> None:
        if self._live is not None:
            self._draw(None)
            self._live.stop()
            self._live = None

    def _print(self, *, header: bool) -> None:
        for line in aligned(_COLUMNS, self._rows[-1:], header=header):
            print(line, flush=True)

    def _draw(self, running: str | None) -> None:
        if self._live is not None:
            waiting = [(Styled(running, "dim"), Styled("...", "dim"))] if running else []
            self._live.update(table(_COLUMNS, [*self._rows, *waiting]))


def _agent() -> Path:
    """The directory of the demo's function: a copy of the example in an installed package, the example itself in a
    checkout."""
    package = Path(__file__).resolve().parent
    places = (package / "demo_agent", package.parents[1] / "examples" / "lambda_agent")
    for place in places:
        if (place / "app.py").is_file():
            return place
    raise TraceGuardError(f"the demo's function is missing: neither {places[0]} nor {places[1]} has an app.py")


def _check_runtime() -> None:
    if sys.platform != "linux" or not hasattr(os, "fork"):
        raise TraceGuardError("the demo needs Linux for AWS's runtime client: run it in a container")
    if importlib.util.find_spec("awslambdaric") is None:
        raise TraceGuardError(
            'the demo needs AWS\'s runtime client, which is not installed: pip install "trace-guard[cli,testing]"'
        )
