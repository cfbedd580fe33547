"""``trace-guard status`` and ``trace-guard recover``: the rows that are not delivered yet."""

from __future__ import annotations

import argparse
import json

from ..journal.directory import STORE_NAME, locate
from ..runtime.recover import Recovery, recover
from ..runtime.status import JournalStatus, Status, read_status
from ..settings import Settings
from .tables import Column, Styled, print_table, say
from .words import count, size

__all__ = ["recover_orphans", "show_status"]

# The table lists at most this many journals; `--json` lists all of them.
_MOST_LISTED = 50


def show_status(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the directory, the destination, each journal and each problem. Returns 1 if there is a problem."""
    status = read_status(settings)
    if arguments.json:
        print(json.dumps(status.to_json()))
    else:
        _print_status(status)
    return 1 if status.problems else 0


def recover_orphans(arguments: argparse.Namespace, settings: Settings) -> int:
    """Close and deliver what dead processes left behind. Returns 1 if something remains."""
    # Looking for orphans must not make a directory where somebody mistyped one.
    directory = locate(settings.dir)
    found = directory.exists()
    done = recover(settings, timeout=arguments.timeout) if found else Recovery(0, 0, 0, 0)
    if arguments.json:
        print(json.dumps(done.to_json()))
    elif not found:
        say(f"nothing to recover: {directory} does not exist")
    elif not (done.journals or done.delivered_rows or done.error):
        say(f"nothing to recover in {directory}")
    else:
        say(
            f"{count(done.journals, 'journal')} of dead processes: {count(done.closed_spans, 'open span')} closed, "
            f"{count(done.delivered_rows, 'row')} delivered"
        )
        if done.error:
            say(f"{count(done.pending_rows, 'row')} pending, safe in {directory}: {done.error}", style="red")
    return 1 if done.error else 0


def _print_status(status: Status) -> None:
    is_local = status.backend == "local"
    facts = (
        ("directory", f"{status.directory}{'' if status.directory.exists() else ' (does not exist yet)'}"),
        ("destination", f"local store {status.directory / STORE_NAME}" if is_local else status.destination),
        ("journals", _in_short(status.journals)),
        ("refused rows", str(status.dead_letters)),
    )
    for name, value in facts:
        say(f"{name:14}{value}")
    if status.journals:
        say("")
        columns = (
            Column("journal"), Column("pid", right=True), Column("state"), Column("size", right=True),
            Column("pending rows", right=True), Column("open spans", right=True), Column("destination"),
        )
        print_table(columns, [
            (
                journal.path.name,
                "-" if journal.pid is None else str(journal.pid),
                Styled(journal.state, "green" if journal.state == "live" else "red"),
                size(journal.bytes),
                str(journal.pending_rows),
                str(journal.open_spans),
                journal.destination if journal.ours else Styled(journal.destination, "yellow"),
            )
            for journal in status.journals[:_MOST_LISTED]
        ])
        if len(status.journals) > _MOST_LISTED:
            say(f"and {count(len(status.journals) - _MOST_LISTED, 'more journal')}: see `trace-guard status --json`")
    say("")
    for problem in status.problems:
        say(f"problem: {problem}", style="red")
    if not status.problems:
        say("no problems", style="green")


def _in_short(journals: tuple[JournalStatus, ...]) -> str:
    if not journals:
        return "none"
    orphans = sum(journal.state == "orphan" for journal in journals)
    return (
        f"{len(journals) - orphans} live, {orphans} of dead processes; "
        f"{size(sum(journal.bytes for journal in journals))}, "
        f"{count(sum(journal.pending_rows for journal in journals), 'pending row')}, "
        f"{count(sum(journal.open_spans for journal in journals), 'open span')}"
    )
