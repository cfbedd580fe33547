"""Reads the contents of trace-guard's directory without changing anything."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..delivery.dead_letters import read_dead_letters
from ..errors import JournalError, JournalUnavailable
from ..journal.directory import DEAD_LETTERS, DIRECTORIES, JOURNALS, NAMES, examine
from ..journal.files import ATTACHMENTS, size_of
from ..journal.format import UNDECIDED, Kind
from ..journal.invocation_record import InvocationRecord
from ..journal.locks import FileLock
from ..journal.open_spans import OpenSpans
from ..journal.orphans import is_ours
from ..journal.owned import check_directory, check_file
from ..journal.reader import parse_payload, read_acked, read_entries, read_header
from ..journal.row_facts import RowFacts
from ..redaction.outside_text import printable
from ..settings import Settings, unknown_variables

__all__ = ["HeldLocks", "JournalStatus", "Status", "read_status"]

# How many damaged things are listed one by one.
_SHOWN = 20


@dataclass(frozen=True)
class JournalStatus:
    """One journal.

    Attributes:
        state: ``live`` while its process runs, ``orphan`` afterwards.
        bytes: the size of its segments.
        pending_rows: how many rows have not been delivered.
        open_spans: how many spans have no end in it.
        destination: where its rows go, in words.
        ours: True if that is the destination of the settings.
        attachments: how many of them have not been uploaded.
        recover_with: the command that delivers it, in words, with the settings of its destination; "" for one of ours.
    """

    path: Path
    pid: int | None
    state: Literal["live", "orphan"]
    bytes: int
    pending_rows: int
    open_spans: int
    destination: str
    ours: bool
    attachments: int = 0
    recover_with: str = ""

    @property
    def is_needed(self) -> bool:
        """True if something in it is not delivered, or a span is open."""
        return bool(self.pending_rows or self.open_spans or self.attachments)

    @property
    def is_left_for_others(self) -> bool:
        """True for what a dead process left for another destination."""
        return self.state == "orphan" and not self.ours

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class Status:
    """The contents of the directory.

    Attributes:
        journals: those of living processes, and those of dead ones that still have something to deliver or to close.
        dead_letters: how many rows the backend has refused for good.
        damaged: how many journals, files and entries can't be read, or are not safely this user's.
        problems: descriptions of faults and their remedies.
    """

    directory: Path
    backend: str
    destination: str
    journals: tuple[JournalStatus, ...]
    dead_letters: int
    problems: tuple[str, ...]
    damaged: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self), "directory": str(self.directory), "problems": list(self.problems),
            "journals": [journal.to_json() for journal in self.journals],
        }


def read_status(settings: Settings) -> Status:
    """Read the directory of the settings; one that is not there is empty."""
    journals, problems = [], unknown_variables(os.environ)
    damaged: list[str] = []
    directory = settings.dir
    try:
        directory = examine(settings.dir) or settings.dir
        paths = sorted((directory / JOURNALS).glob("[!.]*"))
    except JournalUnavailable as error:
        problems.append(f"{error}. Until then tracing goes on in memory")
        return Status(
            settings.dir, settings.backend_name, _in_words(settings.destination), (), 0, tuple(problems), 1
        )
    locks = HeldLocks()
    for path in paths:
        try:
            journal = _journal(path, settings, damaged, locks)
            # A process that a signal ended leaves its journal behind. If it is empty, the next start removes it.
            if journal.state == "live" or journal.is_needed:
                journals.append(journal)
        except FileNotFoundError:
            continue  # removed meanwhile, as all of it was delivered
        except (JournalError, OSError) as error:
            if os.path.lexists(path):
                damaged.append(str(error))
    refused, last_refused = 0, {}
    for letter in read_dead_letters(directory, damaged):
        refused, last_refused = refused + 1, letter
    damaged = list(dict.fromkeys([*damaged, *_unsafe_in(directory)]))
    problems += [*damaged[:_SHOWN], *([f"{len(damaged) - _SHOWN} more like these"] if len(damaged) > _SHOWN else [])]
    orphans = [journal for journal in journals if journal.state == "orphan" and journal.ours]
    if orphans:
        rows, spans = sum(one.pending_rows for one in orphans), sum(one.open_spans for one in orphans)
        problems.append(
            f"{_count(len(orphans), 'journal')} of dead processes, with {_count(rows, 'undelivered row')} and "
            f"{_count(spans, 'open span')}{_and_attachments(orphans)}: run `trace-guard recover`"
        )
    strangers = [journal for journal in journals if journal.is_left_for_others]
    if strangers:
        problems.append(
            f"{_count(len(strangers), 'journal')} of dead processes for another destination "
            f"({', '.join(sorted({one.destination for one in strangers}))}): run "
            + ", ".join(sorted({one.recover_with for one in strangers}))
        )
    if refused:
        problems.append(
            f"{_count(refused, 'row')} refused for good, the last one with: {last_refused.get('error')}; "
            f"they are kept in {directory / DEAD_LETTERS}; `trace-guard recover --refused` sends them again"
        )
    return Status(
        directory, settings.backend_name, _in_words(settings.destination), tuple(journals), refused,
        tuple(map(printable, problems)), len(damaged),
    )


def _journal(path: Path, settings: Settings, damaged: list[str], locks: HeldLocks) -> JournalStatus:
    header = read_header(path)
    acked, spans, pending, odd = read_acked(path), OpenSpans(), 0, 0
    for entry in read_entries(path):
        try:
            row = parse_payload(entry.payload)
        except ValueError:
            odd += 1
            continue
        if entry.kind == Kind.INVOCATION:
            record = InvocationRecord.from_row(row)
            odd += record is None
            if record is not None:
                spans.begin(record)
        elif entry.kind in (Kind.ROW, Kind.IDENTITY):
            spans.observe(RowFacts(row))
            pending += entry.kind == Kind.ROW and entry.end > acked
    if odd:
        damaged.append(f"{path} has {odd} damaged {'entry' if odd == 1 else 'entries'}")
    size = sum(size_of(segment) for segment in path.glob("*.seg"))
    pid, is_live = header.get("pid"), locks.is_held(path / "lock")
    return JournalStatus(
        path, pid if isinstance(pid, int) else None, "live" if is_live else "orphan", size, pending,
        len(spans.all_open()), _in_words(header), is_ours(header, settings.destination),
        len(list((path / ATTACHMENTS).glob("*.json"))),
        "" if is_ours(header, settings.destination) else _recover_with(header),
    )


def _recover_with(header: Mapping[str, Any]) -> str:
    """The command that delivers a journal with this header."""
    if header.get("backend") != "braintrust":
        return f"`TRACE_GUARD_BACKEND={shlex.quote(_in_words(header))} trace-guard recover`"
    given = (
        ("BRAINTRUST_API_URL", header.get("api_url")), ("BRAINTRUST_APP_URL", header.get("app_url")),
        ("BRAINTRUST_ORG_NAME", header.get("org_name")),
    )
    values = " ".join(f"{name}={shlex.quote(printable(value))}" for name, value in given if isinstance(value, str))
    # The value of a key would be redacted wherever it is printed, and everything behind it.
    return f"`{values} trace-guard recover` with its BRAINTRUST_API_KEY"


def _unsafe_in(directory: Path) -> Iterator[str]:
    """Files in trace-guard's directory that are not used, because they may not safely belong to this user."""
    for path in directory.glob("*"):
        if path.name.startswith(NAMES):
            yield from _unsafe(path)


def _unsafe(path: Path) -> Iterator[str]:
    is_journal = path.parent.name == JOURNALS
    try:
        if not (is_journal or path.name in DIRECTORIES):
            check_file(path)
            return
        check_directory(path)
        below = sorted(path.iterdir())
    except FileNotFoundError:
        return  # removed meanwhile
    except OSError as error:
        yield str(error)
        return
    for one in below:
        yield from _unsafe(one)


def _and_attachments(journals: list[JournalStatus]) -> str:
    waiting = sum(journal.attachments for journal in journals)
    return f" and {_count(waiting, 'attachment')}" if waiting else ""


class HeldLocks:
    """The locks that processes hold, read from the kernel's table if it exists: taking a lock to test it could block
    a recovery. The table is read once, after the journals were listed: a journal is locked before it gets its name."""

    def __init__(self) -> None:
        self._table: set[str] | None = None

    def is_held(self, path: Path) -> bool:
        """Whether a process holds the lock on a file."""
        check_file(path)
        found = os.lstat(path)
        if self._table is None:
            self._table = _locked()
        if self._table:
            return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}" in self._table
        lock = FileLock(path)
        held = not lock.acquire()
        lock.release()
        return held


def _locked() -> set[str]:
    """The words of the kernel's table of locks, device and inode of each locked file among them; none where there is
    no table."""
    try:
        with open("/proc/locks") as table:
            return {word for line in table for word in (line.split() if " FLOCK " in line else ("",))}
    except OSError:
        return set()


def _in_words(destination: Any) -> str:
    if destination.get("backend") == UNDECIDED:
        return "local"  # unless a process with a key for these URLs recovers it
    if destination.get("backend") != "braintrust":
        return printable(destination.get("backend"))
    words = [destination.get("api_url") or destination.get("app_url") or "Braintrust"]
    if destination.get("org_name"):
        words.append(f"organisation {destination['org_name']}")
    words.append(f"key {destination.get('key_fingerprint') or 'unset'}")
    return ", ".join(printable(word) for word in words)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
