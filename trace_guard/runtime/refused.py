"""``trace-guard recover --refused``: sends rows again that the backend has refused for good.

They stay dead letters until they are delivered. They are sent from memory and not from a journal, since a recovery
would take a row whose span has ended elsewhere for an open span, and close it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..contain import warn_once
from ..deadline import Deadline, Seconds
from ..delivery.courier import Courier
from ..delivery.dead_letters import DeadLetters, letters_in, write_letters
from ..journal.directory import DEAD_LETTERS, prepare
from ..journal.memory import MemoryJournal
from ..journal.open_spans import OpenSpans
from ..journal.orphans import is_ours
from ..journal.row_facts import NewRow
from ..settings import Settings

__all__ = ["Resent", "resend_refused"]


@dataclass(frozen=True)
class Resent:
    """The result of sending refused rows again.

    Attributes:
        delivered: how many rows the backend has taken.
        refused: how many it has refused again. They are kept.
        kept: how many were not sent: the backend did not answer in time, they are for another destination, or they
            are attachments.
        error: why rows were not sent or were refused again; None if nothing is left.
    """

    delivered: int = 0
    refused: int = 0
    kept: int = 0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def resend_refused(settings: Settings, *, timeout: Seconds = 30.0) -> Resent:
    """Send the refused rows of a directory again that are for the destination of the settings.

    Args:
        timeout: most seconds to wait for the backend.

    Raises:
        JournalUnavailable: the directory can't be used.
    """
    deadline = Deadline.after(timeout)
    state_dir = prepare(settings.dir, settings.max_journal_bytes)
    directory = state_dir.directory / DEAD_LETTERS
    delivered = refused = kept = 0
    error: str | None = None
    for path in _taken(directory):
        damaged: list[str] = []
        letters = list(letters_in(path, damaged))
        if damaged:
            kept, error = kept + len(letters), damaged[0]
            continue
        ours: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for letter in letters:
            (ours if _is_sendable(letter, settings.destination) else others).append(letter)
        if not ours:
            kept += len(others)
            continue
        again = DeadLetters(state_dir.directory, state_dir.byte_limit // 8, lambda: settings.destination)
        why = _sent(settings, ours, again, deadline)
        if why is not None:
            error = why
            kept += len(letters)
            continue
        refused += again.count
        delivered += len(ours) - again.count
        kept += len(others)
        error = again.last_error or error
        write_letters(directory, others)
        path.unlink()
    if kept and error is None:
        error = "the rest is for another destination, or is an attachment"
    return Resent(delivered, refused, kept, error)


def _sent(
    settings: Settings, letters: list[dict[str, Any]], again: DeadLetters, deadline: Deadline
) -> str | None:
    """Send the rows of letters. Returns why some are left; None if each was delivered or refused again."""
    from ..backends.make import make_backend
    from ..backends.project_ids import ProjectIds

    courier = Courier(make_backend(settings, ProjectIds()), again)
    rows = [letter["row"] for letter in letters]
    journal = MemoryJournal(OpenSpans(), max_bytes=1 << 40)  # the size of a file of letters is bounded
    journal.append([NewRow.of(row) for row in rows])
    courier.add(journal)
    try:
        if courier.drain(deadline, force=True):
            return None
        return courier.last_error or "the time was up"
    finally:
        courier.close()


def _is_sendable(letter: Mapping[str, Any], destination: Mapping[str, Any]) -> bool:
    """True for a row of this destination. Earlier releases did not note the destination."""
    if not isinstance(letter.get("row"), dict):
        return False
    noted = letter.get("destination")
    return not isinstance(noted, dict) or is_ours(noted, destination)


def _taken(directory: Path) -> Iterator[Path]:
    """The files of letters, each renamed first, as a living process may add to its own."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob("*.seg")):
        taken = path if path.name.startswith("taken-") else path.with_name(f"taken-{os.getpid()}-{path.name}")
        try:
            if taken is not path:
                path.rename(taken)
        except FileNotFoundError:
            continue  # another recovery took it
        except OSError as error:
            warn_once(f"refused:{path}", "refused rows in %s can't be sent again: %s", path, error)
            continue
        yield taken
