"""Reading a journal's segments, its own or another process's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import JournalDamaged
from .format import FORMAT, MAGIC, Entry, Position, decode_acked, decode_entries, segment_name

START = Position(0, 0)
"""Before everything."""

__all__ = ["START", "read_acked", "read_entries", "read_header", "segments"]


def segments(path: Path) -> list[int]:
    """The numbers of a journal's segments, in order."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".seg") and name[:-4].isdigit())


def read_header(path: Path) -> dict[str, Any]:
    """A journal's header.

    Raises:
        JournalDamaged: there is none, or it is of a format that this release does not know.
    """
    try:
        header = json.loads((path / "header").read_bytes())
    except (OSError, ValueError) as error:
        raise JournalDamaged(f"{path} has no readable header: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise JournalDamaged(f"{path} has format {found}, this release reads {FORMAT}: upgrade trace-guard")
    return header


def read_acked(path: Path) -> Position:
    """How far delivery has come; the beginning if that is not known."""
    try:
        acked = decode_acked((path / "acked").read_bytes())
    except OSError:
        acked = None
    return acked or START


def read_entries(
    path: Path, after: Position = START, until: Position | None = None
) -> Iterator[Entry]:
    """The whole entries behind ``after``, up to ``until``, across segments; a torn tail is passed over."""
    for number in segments(path):
        if number < after.segment or (until is not None and number > until.segment):
            continue
        start = max(len(MAGIC), after.offset if number == after.segment else 0)
        size = until.offset - start if until is not None and number == until.segment else -1
        if until is not None and number == until.segment and size <= 0:
            continue
        try:
            with open(path / segment_name(number), "rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    continue  # torn before its first entry
                file.seek(start)
                data = file.read(size)
        except FileNotFoundError:
            continue  # acknowledged and removed meanwhile
        yield from decode_entries(data, number, start)
