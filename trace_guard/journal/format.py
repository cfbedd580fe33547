"""The record layout of a journal.

A journal is a directory::

    lock            held (flock) by the process that writes; touched while an invocation runs
    courier.lock    held (flock) by the process that delivers; only that process moves ``acked``
    header          JSON: format, writer and destination
    acked           the acknowledged position: segment and offset (u64 each), CRC-32 (u32)
    00000001.seg    segments, in order; each is MAGIC, then entries
    attachments/    attachments that wait for upload, see attachments.py; made for the first one

An entry is::

    length    u32   bytes of the payload
    checksum  u32   CRC-32 of all that follows
    kind      u8    see Kind
    flags     u8    see Flag
    reserved  u16   zero
    time      f64   when it was appended, in seconds since the epoch
    payload   UTF-8 JSON

All numbers are big-endian.

**The rule for a torn tail**: reading a segment stops before the first entry that is incomplete or fails its checksum.
What follows in that segment does not count. Entries are appended with one ``write`` call and never changed, so only
the last write of a segment can be torn. Nobody appends to a segment that may be torn: a recovery begins a new one.

A journal never holds an API key. MAGIC and ``format`` in the header give the version of the format.
"""

from __future__ import annotations

import enum
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "ENTRY_OVERHEAD", "FORMAT", "MAGIC", "PAYLOAD_LIMIT", "UNDECIDED", "Entry", "Flag", "Kind", "Position",
    "decode_entries", "encode_entry", "entry_size",
]

FORMAT = 1
UNDECIDED = "undecided"
"""The backend in the header of a journal whose process has no key yet, and has delivered nothing. The header is
replaced once the destination is known."""
MAGIC = b"TGSEG\x01\r\n"
_PREFIX = struct.Struct(">II")
_REST = struct.Struct(">BBHd")
ENTRY_OVERHEAD = _PREFIX.size + _REST.size
PAYLOAD_LIMIT = 32 * 1024 * 1024
"""The most bytes of an entry's payload. Longer ones are not written, and reading stops before them."""
_ACKED = struct.Struct(">QQ")
_CHECKSUM = struct.Struct(">I")


class Kind(enum.IntEnum):
    """The kind of an entry."""

    ROW = 1
    """A row to deliver."""
    INVOCATION = 2
    """The beginning of an invocation: its root, deadline and reserve. Not delivered."""
    IDENTITY = 3
    """The identity of a span that was open when the segment with its start was removed. Not delivered."""


class Flag(enum.IntFlag):
    """How a row is delivered."""

    NONE = 0
    VERBATIM = 2
    """Byte for byte, as it is not a span row."""


class Position(NamedTuple):
    """A place in a journal. Positions are ordered."""

    segment: int
    offset: int


class Entry(NamedTuple):
    """One entry as read.

    Attributes:
        time: when it was appended, in seconds since the epoch.
        end: the position behind it.
    """

    kind: int
    flags: int
    time: float
    payload: bytes
    end: Position


def encode_entry(kind: Kind, payload: bytes, flags: int = 0, at: float | None = None) -> bytes:
    """Encode an entry.

    Args:
        at: its time, in seconds since the epoch; now by default.
    """
    rest = _REST.pack(kind, flags, 0, time.time() if at is None else at)
    checksum = zlib.crc32(payload, zlib.crc32(rest))
    return b"".join((_PREFIX.pack(len(payload), checksum), rest, payload))


def decode_entries(data: bytes, segment: int, base: int = 0) -> Iterator[Entry]:
    """The whole entries at the start of ``data``. Stops without an error at a torn tail.

    Args:
        base: the offset of ``data`` in the segment's file.
    """
    view = memoryview(data)
    at = 0
    while at + ENTRY_OVERHEAD <= len(data):
        length, checksum = _PREFIX.unpack_from(data, at)
        end = at + ENTRY_OVERHEAD + length
        if end > len(data) or zlib.crc32(view[at + _PREFIX.size : end]) != checksum:
            return
        kind, flags, _, when = _REST.unpack_from(data, at + _PREFIX.size)
        yield Entry(kind, flags, when, bytes(view[at + ENTRY_OVERHEAD : end]), Position(segment, base + end))
        at = end


def entry_size(data: bytes) -> int:
    """Bytes of the entry that begins with ``data``. If ``data`` is too short to tell, those of an empty entry."""
    length = _PREFIX.unpack_from(data)[0] if len(data) >= _PREFIX.size else 0
    return ENTRY_OVERHEAD + int(length)


def encode_acked(position: Position) -> bytes:
    body = _ACKED.pack(*position)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_acked(data: bytes) -> Position | None:
    """The acknowledged position; None if the file is torn. All rows are then sent again, which changes nothing."""
    body, checksum = data[: _ACKED.size], data[_ACKED.size :]
    if len(data) != _ACKED.size + _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        return None
    return Position(*_ACKED.unpack(body))


def segment_name(number: int) -> str:
    return f"{number:08d}.seg"
