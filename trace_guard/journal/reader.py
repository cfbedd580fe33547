"""Reads the files of a journal, of this process or another one.

Reading is bounded: at most one chunk or entry is in memory, and only regular files of this user are opened. A damaged
file or entry is reported once and skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

from ..contain import warn_once
from ..errors import JournalDamaged
from ..rows import OBJECT_KEYS, Row
from .format import (
    FORMAT,
    MAGIC,
    PAYLOAD_LIMIT,
    Entry,
    Position,
    decode_acked,
    decode_entries,
    encode_acked,
    entry_size,
    segment_name,
)
from .owned import UnsafeFile, check_directory, open_file, read_file

START = Position(0, 0)
"""The position before the first entry."""

__all__ = [
    "START", "entries_between", "has_valid_ids", "parse_payload", "read_acked", "read_entries", "read_header", "row_in",
    "segments",
]

_CHUNK_BYTES = 1024 * 1024
_HEADER_BYTES = 64 * 1024
# Fits into the position in the file ``acked``.
_LAST_SEGMENT = 1 << 62
_IDS = (*OBJECT_KEYS, "id", "span_id", "root_span_id")
_ID_TYPES = {str, int, bool, NoneType}
_PARENT_TYPES = {str}
# Python reads and writes NaN and infinity. JSON has neither, and no server takes them.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None)


def segments(path: Path) -> list[int]:
    """The numbers of a journal's segments, in order."""
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = (int(name[:-4]) for name in names if name.endswith(".seg") and name[:-4].isascii() and name[:-4].isdigit()
               and len(name) < 24)
    return sorted(number for number in numbers if number < _LAST_SEGMENT and segment_name(number) in names)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a journal.

    Raises:
        JournalDamaged: there is none, it is not this user's, or this release doesn't know its format.
    """
    try:
        check_directory(path)
    except UnsafeFile as error:
        raise JournalDamaged(str(error)) from error
    except OSError as error:
        raise JournalDamaged(f"{path} can't be read: {error}") from error
    try:
        header = json.loads(read_file(path / "header", _HEADER_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise JournalDamaged(f"{path} has no readable header: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise JournalDamaged(f"{path} has format {found!r:.80}, this release reads {FORMAT}: upgrade trace-guard")
    return header


def read_acked(path: Path) -> Position:
    """The acknowledged position; the beginning if it is unknown or impossible. All rows are then sent again, which
    changes nothing."""
    try:
        acked = decode_acked(read_file(path / "acked", len(encode_acked(START))))
    except OSError:
        acked = None
    if acked is None:
        return START
    numbers = segments(path)
    if acked.segment in numbers:
        return acked if acked.offset <= _length(path / segment_name(acked.segment)) else START
    return acked if numbers and acked.segment < numbers[-1] else START


def read_entries(
    path: Path, after: Position = START, until: Position | None = None
) -> Iterator[Entry]:
    """The whole entries behind ``after``, up to ``until``, of all segments. Torn tails are skipped."""
    for number in segments(path):
        if number < after.segment or (until is not None and number > until.segment):
            continue
        start = max(len(MAGIC), after.offset if number == after.segment else 0)
        stop = until.offset if until is not None and number == until.segment else None
        if stop is not None and stop <= start:
            continue
        segment = path / segment_name(number)
        try:
            descriptor = open_file(segment, os.O_RDONLY)
        except FileNotFoundError:
            continue  # acknowledged and removed meanwhile
        except UnsafeFile as error:
            warn_once(f"damaged:{segment}", "%s: rows can't be read", error)
            continue
        with open(descriptor, "rb", buffering=0):
            yield from entries_between(descriptor, number, start, stop)


def entries_between(descriptor: int, number: int, start: int, stop: int | None = None) -> Iterator[Entry]:
    """The whole entries of a segment between two offsets; up to the end of the file without ``stop``."""
    size = os.fstat(descriptor).st_size
    stop = size if stop is None else min(stop, size)
    if _read_at(descriptor, len(MAGIC), 0) != MAGIC:
        return  # torn before its first entry
    while start < stop:
        data = _read_at(descriptor, min(_CHUNK_BYTES, stop - start), start)
        needed = entry_size(data)
        if needed > len(data):
            if needed > min(stop - start, PAYLOAD_LIMIT + entry_size(b"")):
                return
            data = _read_at(descriptor, needed, start)
        before = start
        for entry in decode_entries(data, number, start):
            yield entry
            start = entry.end.offset
        if start == before:
            return


def parse_payload(payload: bytes) -> Row:
    """Parse the payload of an entry.

    Raises:
        ValueError: it is not a JSON object with valid ids. A valid checksum doesn't rule that out: another program may
            have written the entry.
    """
    try:
        row = _DECODER.decode(payload.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError(f"it is not an object: {payload[:40]!r}")
    if not has_valid_ids(row):
        raise ValueError(f"its ids are not valid: { {key: row.get(key) for key in (*_IDS, 'span_parents')}!r:.400}")
    return row


def has_valid_ids(row: Row) -> bool:
    """False if an id is an object, for example."""
    for key in _IDS:
        if type(row.get(key)) not in _ID_TYPES:
            return False
    parents = row.get("span_parents")
    return parents is None or (type(parents) is list and {*map(type, parents)} <= _PARENT_TYPES)


def row_in(entry: Entry, source: Path | None = None) -> Row | None:
    """The row of an entry; None if it is invalid, which is reported once for each journal."""
    try:
        return parse_payload(entry.payload)
    except ValueError as error:
        warn_once(
            f"damaged:entry:{source}", "an entry of the journal%s is damaged and is skipped: %s",
            f" {source}" if source else "", error,
        )
        return None


def _length(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)
