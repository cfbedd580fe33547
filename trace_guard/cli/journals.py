"""``trace-guard status`` and ``trace-guard recover``: the rows that are not delivered yet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

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
    """Close and deliver what dead processes left behind, or send refused rows again. Returns 1 if something remains
    for this destination."""
    # Looking for orphans must not make a directory where somebody mistyped one.
    directory = locate(settings.dir)
    found = directory.exists()
    if arguments.refused:
        return _resend(arguments, settings, found=found)
    done = recover(settings, timeout=arguments.timeout) if found else Recovery(0, 0, 0, 0)
    others = [journal for journal in read_status(settings).journals if journal.is_left_for_others] if found else []
    if arguments.json:
        elsewhere = {"elsewhere": [journal.to_json() for journal in others]} if others else {}
        print(json.dumps({**done.to_json(), **elsewhere}))
        return 1 if done.error else 0
    if not found:
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
    for (destination, command), journals in _by_destination(others).items():
        rows, spans = sum(one.pending_rows for one in journals), sum(one.open_spans for one in journals)
        say(
            f"{count(rows, 'row')} and {count(spans, 'open span')} in {count(len(journals), 'journal')} are for "
            f"another destination ({destination}): run {command}", style="yellow",
        )
    return 1 if done.error else 0


def _resend(arguments: argparse.Namespace, settings: Settings, *, found: bool) -> int:
    """Send refused rows again. Returns 1 if some are left."""
    from ..runtime.refused import Resent, resend_refused

    done = resend_refused(settings, timeout=arguments.timeout) if found else Resent()
    if arguments.json:
        print(json.dumps(done.to_json()))
    elif not (done.delivered or done.refused or done.kept):
        say("no refused rows")
    else:
        say(
            f"{count(done.delivered, 'refused row')} delivered, {done.refused} refused again, {done.kept} kept",
            style="red" if done.refused or done.kept else "green",
        )
        if done.error:
            say(f"the last reason: {done.error}", style="red")
    return 1 if done.refused or done.kept else 0


def _by_destination(journals: Sequence[JournalStatus]) -> dict[tuple[str, str], list[JournalStatus]]:
    found: dict[tuple[str, str], list[JournalStatus]] = {}
    for journal in journals:
        found.setdefault((journal.destination, journal.recover_with), []).append(journal)
    return found


def _print_status(status: Status) -> None:
    is_local = status.backend == "local"
    facts = (
        ("directory", f"{status.directory}{'' if status.directory.exists() else ' (does not exist yet)'}"),
        ("destination", f"local store {status.directory / STORE_NAME}" if is_local else status.destination),
        ("journals", _in_short(status.journals)),
        ("refused rows", str(status.dead_letters)),
    )
    for name, value in facts:
        say(f"{name:14}{value}", indent=" " * 14)
    if status.journals:
        say("")
        columns = (
            Column("journal"), Column("pid", right=True, spare=True), Column("state"), Column("size", right=True),
            Column("pending rows", right=True), Column("open spans", right=True), Column("destination", below=True),
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
        say(f"problem: {problem}", style="red", indent="  ")
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
