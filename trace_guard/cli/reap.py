"""``trace-guard reap``: shows stuck traces, and closes them."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from ..errors import SettingsError
from ..repair.open_traces import StuckTrace
from ..repair.reaper import Reaped, Reaper
from ..settings import Settings
from ..system.clock import monotonic
from .tables import Cell, Column, Styled, print_table, say
from .words import count, duration

__all__ = ["reap_traces"]

# The table lists at most this many traces, so that memory does not grow with them; `--json` lists all.
_MOST_LISTED = 1000
_MOST_PLACES = 3
_LONGEST_TEXT = 40
_LONGEST_PLACES = 100


def reap_traces(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the stuck traces as a table, or as ``{"traces": [...], "summary": {...}}``.

    Returns 0, or 130 after Ctrl-C.
    """
    if arguments.output and arguments.close:
        arguments.fail("--output writes the closing rows to a file, --close sends them: choose one")
    if arguments.audit and not arguments.close:
        arguments.fail("--audit lists what --close has closed")
    reaper = Reaper(
        settings, projects=arguments.project, all_projects=arguments.all_projects, experiments=arguments.experiment,
        older_than=arguments.older_than, since=arguments.since, filter=arguments.filter, limit=arguments.limit,
        shard=arguments.shard, parallel=arguments.parallel, error=arguments.error, audit=arguments.audit,
    )
    report = _JsonReport() if arguments.json else _TableReport(arguments)
    with _progress(reaper, arguments.json), _stopped_by_ctrl_c(reaper) as interrupted:
        try:
            done = _run(reaper, arguments, report.add)
        finally:
            reaper.disconnect()
    done.interrupted = done.interrupted or interrupted[0]
    report.end(done)
    return 128 + signal.SIGINT if done.interrupted else 0


def _run(reaper: Reaper, arguments: argparse.Namespace, add: Callable[[StuckTrace], None]) -> Reaped:
    if arguments.close:
        return reaper.close(add)
    done = Reaped()
    with _output(arguments.output) as file:
        for trace, rows in reaper.closing_rows():
            done.found += 1
            add(trace)
            if file is not None:
                file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return done


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = open(path, "w")  # noqa: SIM115 - an error while it is used is none of opening it
    except OSError as error:
        raise SettingsError(f"{path} can't be written: {error.strerror}") from error
    with file:
        yield file


class _JsonReport:
    """Prints each trace at once, as there may be very many."""

    def __init__(self) -> None:
        self._separator = '{"traces": ['

    def add(self, trace: StuckTrace) -> None:
        print(self._separator, json.dumps(trace.to_json()), sep="", end="")
        self._separator = ", "

    def end(self, done: Reaped) -> None:
        print(f'{"" if self._separator == ", " else self._separator}], "summary": {json.dumps(done.to_json())}}}')


class _TableReport:
    """Prints a table and what to do next."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._rows: list[Sequence[Cell]] = []
        self._open = 0
        self._projects: dict[str, None] = {}

    def add(self, trace: StuckTrace) -> None:
        self._open += len(trace.open_spans)
        if len(self._projects) < _MOST_PLACES:
            self._projects[f"{trace.where.kind}:{trace.where.name}"] = None
        if len(self._rows) >= _MOST_LISTED:
            return
        now = time.time()
        places = [f"{span.name} at {span.place or '?'}" for span in trace.open_spans[:_MOST_PLACES]]
        if len(trace.open_spans) > _MOST_PLACES:
            places.append(f"and {len(trace.open_spans) - _MOST_PLACES} more")
        self._rows.append((
            Styled(_cut(trace.root_span_id, 12), "cyan"), _cut(trace.name), _cut(trace.where.name),
            duration(None if trace.start is None else max(0.0, now - trace.start)),
            duration(max(0.0, now - trace.last_activity)), f"{len(trace.open_spans)} of {trace.spans}",
            Styled(trace.cause.sentence, "yellow"), _cut("; ".join(places), _LONGEST_PLACES),
        ))

    def end(self, done: Reaped) -> None:
        listed = done.closed if self._arguments.close else done.found
        if self._rows:
            columns = (
                Column("trace"), Column("name", folds=True), Column("project", folds=True), Column("age", right=True),
                Column("quiet for", right=True), Column("open", right=True), Column("likely cause", below=True),
                Column("open spans, started at", below=True),
            )
            print_table(columns, self._rows)
            if listed > len(self._rows):
                say(f"... and {count(listed - len(self._rows), 'more trace')}: --json lists all")
        for line in self._words(done):
            say(line)

    def _words(self, done: Reaped) -> Iterator[str]:
        quiet = duration(self._arguments.older_than)
        if done.interrupted:
            yield "Interrupted. What is listed is complete; run the command again to go on."
        if not done.found and not done.interrupted:
            yield f"No stuck trace: none is open in which nothing has happened for {quiet}."
        elif not self._arguments.close:
            yield f"{count(done.found, 'stuck trace')}, {count(self._open, 'open span')}."
            if self._arguments.output:
                names = ", ".join(self._projects)
                yield f"The closing rows are in {self._arguments.output}. Push them with the command of each project:"
                yield f"  bt sync push {names or 'project_logs:NAME'} --in {self._arguments.output}"
            elif done.found:
                yield "Nothing was changed. --close closes them at the time of their last activity."
        if self._arguments.close:
            yield f"{count(done.closed, 'trace')} closed, with {count(done.closed_spans, 'span')}."
            if done.left_alone:
                yield f"{count(done.left_alone, 'trace')} left alone: something has happened in the meantime."
            if done.cleared:
                yield f"{count(done.cleared, 'span')} had been closed earlier and ended later: the marks are removed."


def _cut(text: str, most: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


@contextlib.contextmanager
def _stopped_by_ctrl_c(reaper: Reaper) -> Iterator[list[bool]]:
    """The first Ctrl-C ends the search and lets a close complete; the second one is the usual one."""
    interrupted = [False]

    def stop(number: int, frame: FrameType | None) -> None:
        interrupted[0] = True
        reaper.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread: the caller has its own way to stop
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _progress(reaper: Reaper, quiet: bool) -> Iterator[None]:
    """A progress bar on stderr, if that is a terminal. Pauses that the service asks for are always told."""
    bar: Any = None
    if sys.stderr.isatty() and not quiet:
        with contextlib.suppress(ImportError):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True),
                transient=True,
            )
    if bar is None:
        reaper.on_wait = lambda seconds: print(
            f"trace-guard: the service asks to wait {seconds:.0f} s", file=sys.stderr, flush=True
        )
        yield
        return
    task = bar.add_task("searching", total=None)
    over = 0.0  # when the last pause ends

    def wait(seconds: float) -> None:
        nonlocal over
        over = max(over, monotonic() + seconds)
        bar.update(task, description=f"waiting {seconds:.0f} s, as the service asks")

    def show(done: int, windows: int) -> None:
        bar.update(task, completed=done, total=windows)
        if monotonic() >= over:
            bar.update(task, description="searching")

    reaper.on_wait, reaper.on_progress = wait, show
    with bar:
        yield
