"""The record layout of a journal.

A journal is a directory::

    lock            held (flock) by the process that writes; touched while an invocation runs
    courier.lock    held by whoever delivers; only the holder moves ``acked``
    header          JSON: format, who writes, and for which destination
    acked           how far delivery has come: segment and offset (u64 each), CRC-32 (u32), big-endian
    00000001.seg    segments, in order; each begins with MAGIC, then entries
    attachments/    what rows refer to and is yet to be uploaded, see attachments.py; only if there ever was any

and an entry is::

    length    u32   bytes of the payload
    checksum  u32   CRC-32 of all that follows
    kind      u8    see Kind
    flags     u8    see Flag
    reserved  u16   zero
    time      f64   when it was appended, in seconds since the epoch
    payload   UTF-8 JSON

All numbers are big-endian. **The rule for a torn tail**: reading a segment ends before the first entry that
is incomplete or fails its checksum; what follows in that segment is not there. Entries are written with one
``write`` call and never changed, so that only the last one of a segment can be torn, and a recoverer never
appends behind it: it begins a new segment.

A journal never holds a key. Its format is versioned by MAGIC and by ``format`` in the header.
"""

from __future__ import annotations

import enum
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "FORMAT", "MAGIC", "PAYLOAD_LIMIT", "Entry", "Flag", "Kind", "Position", "decode_entries", "encode_entry",
    "entry_size",
]

FORMAT = 1
MAGIC = b"TGSEG\x01\r\n"
_PREFIX = struct.Struct(">II")
_REST = struct.Struct(">BBHd")
ENTRY_OVERHEAD = _PREFIX.size + _REST.size
PAYLOAD_LIMIT = 32 * 1024 * 1024
"""The most bytes of an entry's payload. A longer one is not written, and reading ends before it, as at a torn tail."""
_ACKED = struct.Struct(">QQ")
_CHECKSUM = struct.Struct(">I")


class Kind(enum.IntEnum):
    """What an entry is."""

    ROW = 1
    """A row, to be delivered."""
    INVOCATION = 2
    """An invocation has begun: its root, deadline and reserve. Not delivered."""
    IDENTITY = 3
    """A span that was open when the segment with its start was removed. Not delivered."""


class Flag(enum.IntFlag):
    """How a row is to be delivered."""

    NONE = 0
    VERBATIM = 2
    """Not a span row: sent byte for byte."""


class Position(NamedTuple):
    """A place in a journal; positions are ordered."""

    segment: int
    offset: int


class Entry(NamedTuple):
    """One entry as read.

    ``end`` is the position behind it, ``time`` when it was appended (seconds since the epoch).
    """

    kind: int
    flags: int
    time: float
    payload: bytes
    end: Position


def encode_entry(kind: Kind, payload: bytes, flags: Flag = Flag.NONE, at: float | None = None) -> bytes:
    """The bytes of one entry, stamped with the present time unless ``at`` is given."""
    rest = _REST.pack(kind, flags, 0, time.time() if at is None else at)
    checksum = zlib.crc32(payload, zlib.crc32(rest))
    return b"".join((_PREFIX.pack(len(payload), checksum), rest, payload))


def decode_entries(data: bytes, segment: int, base: int = 0) -> Iterator[Entry]:
    """The whole entries at the start of ``data``, which begins ``base`` bytes into the segment's file.

    Stops without an error at a torn tail.
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
    """The bytes that the entry takes which begins with ``data``; what is too short to tell is taken for one without
    payload."""
    length = _PREFIX.unpack_from(data)[0] if len(data) >= _PREFIX.size else 0
    return ENTRY_OVERHEAD + int(length)


def encode_acked(position: Position) -> bytes:
    body = _ACKED.pack(*position)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_acked(data: bytes) -> Position | None:
    """The acknowledged position, or None if the file was torn: then all is sent again, which changes nothing."""
    body, checksum = data[: _ACKED.size], data[_ACKED.size :]
    if len(data) != _ACKED.size + _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        return None
    return Position(*_ACKED.unpack(body))


def segment_name(number: int) -> str:
    return f"{number:08d}.seg"
