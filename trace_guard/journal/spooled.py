"""An attachment that waits for upload, and its content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from .owned import open_file

__all__ = ["Content", "SpooledAttachment", "file_name", "known_size", "pieces"]

_PIECE = 256 * 1024
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Content:
    """The bytes of an attachment, in a file or in memory. It can be iterated repeatedly, piece by piece, so that a
    request can be sent again and a large file is never in memory as a whole."""

    def __init__(self, source: Path | bytes) -> None:
        self.source = source
        self.size = len(source) if isinstance(source, bytes) else os.lstat(source).st_size

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.source, bytes):
            yield self.source
            return
        left = self.size
        with open(open_file(self.source, os.O_RDONLY), "rb", buffering=0) as file:
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece


@dataclass(eq=False)
class SpooledAttachment:
    """One attachment.

    Attributes:
        key: the key by which rows refer to it.
        org_id: the organisation from the SDK, which may be a placeholder.
        root: the ``root_span_id`` of the trace that refers to it, if known.
        error: why there is no content. The backend then gets the error in its place.
        content: None if there is an error, or until the SDK has handed it over.
    """

    key: str
    filename: str = ""
    content_type: str = ""
    org_id: str = ""
    root: str | None = None
    error: str | None = None
    content: Content | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Everything except the content."""
        return {name: value for name, value in vars(self).items() if name != "content"}

    @property
    def vanished(self) -> bool:
        """True if its file is gone: another process has delivered it, or another program has removed it."""
        source = self.content.source if self.content else None
        return isinstance(source, Path) and not source.exists()


def file_name(key: str) -> str:
    """The file name for a key. Keys of the SDK are UUIDs. Any other key is hashed, as it could lead out of the
    directory."""
    return key if _SAFE.fullmatch(key) else sha256(key.encode()).hexdigest()


def known_size(body: object) -> int:
    """Bytes of a request's body; 0 if they can't be known without reading it."""
    return len(body) if isinstance(body, (bytes, bytearray, str)) else 0


def pieces(body: object) -> Iterator[memoryview]:
    """The pieces of a request's body, without copying it."""
    if body is None:
        return
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, (bytes, bytearray)):
        view = memoryview(body)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
    elif hasattr(body, "read"):
        while piece := body.read(_PIECE):
            yield memoryview(piece)
    else:
        for piece in body:  # type: ignore[attr-defined]
            yield memoryview(piece)
