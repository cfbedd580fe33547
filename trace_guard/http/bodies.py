"""Copies the beginning of a body while it passes, and shows it as a value to log.

JSON, forms and other text are copied up to the limit of captured payloads. Of compressed and binary bodies only the
bytes are counted. The body itself passes unchanged.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any

from ..contain import contained
from ..invocation.state import NOTHING
from ..payload import CUT
from .content import bare_type, charset_of, fields_of, is_form, is_text, parsed

__all__ = ["BodyCopy", "described", "described_file", "length_of", "shown_body"]

_MULTIPART = "multipart/form-data"
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)
_PARAMETER = r"""[;\s]{}=(?:"([^"\r\n]{{0,256}})"|([^\s;"]{{1,256}}))"""
_NAME = re.compile(_PARAMETER.format("name"), re.IGNORECASE)
_FILE_NAME = re.compile(_PARAMETER.format("filename"), re.IGNORECASE)
_TYPE = re.compile(r"^content-type:[ \t]*([^\r\n;]{1,100})", re.IGNORECASE | re.MULTILINE)
_MOST_PARTS = 100
_LONGEST_WORD = 100


class BodyCopy:
    """The beginning of one body.

    Args:
        headers: of the request or response, with their names in lower case.
        byte_limit: how many bytes of a text are kept.

    Attributes:
        size: how many bytes have passed.
    """

    __slots__ = ("_coding", "_kept", "_limit", "_room", "_type", "size")

    def __init__(self, headers: Mapping[str, str], byte_limit: int) -> None:
        self.size = 0
        self._type = headers.get("content-type") or ""
        self._coding = (headers.get("content-encoding") or "").strip().lower()
        self._limit = byte_limit
        kind = bare_type(self._type)
        is_kept = self._coding in ("", "identity") and (not kind or is_text(kind) or kind == _MULTIPART)
        self._room = byte_limit if is_kept else 0
        self._kept = bytearray()

    def add(self, chunk: Any) -> None:
        """Copy a chunk that passes. What is neither bytes nor text is ignored, as the server will refuse it."""
        if isinstance(chunk, str):
            size = len(chunk) if chunk.isascii() else len(chunk.encode("utf-8", "surrogatepass"))
        elif isinstance(chunk, (bytes, bytearray)):
            size = len(chunk)
        elif isinstance(chunk, memoryview):
            size = chunk.nbytes
        else:
            return
        self.size += size
        room = self._room
        if room > 0 and size:
            if isinstance(chunk, str):
                chunk = chunk[:room].encode(charset_of(self._type), "replace")
            elif isinstance(chunk, memoryview):
                chunk = bytes(chunk)
            kept = chunk if len(chunk) <= room else chunk[:room]
            self._kept += kept
            self._room = room - len(kept)

    @property
    def is_full(self) -> bool:
        """True if the rest of the body would not change what is shown."""
        return self.size > self._limit and len(self._kept) == self._limit and not self._is_multipart

    @property
    def _is_multipart(self) -> bool:
        return bare_type(self._type) == _MULTIPART

    def shown(self) -> Any:
        """The body as a value to log: the value of JSON, the fields of a form, text, or type and size. NOTHING if no
        byte has passed."""
        return shown_body(bytes(self._kept), self.size, self._type, self._coding) if self.size else NOTHING


def shown_body(content: bytes, size: int, content_type: str, coding: str = "") -> Any:
    """A body as a value to log.

    Args:
        content: the beginning of the body; empty if it is not text.
        size: of the whole body.
        content_type: with its parameters; empty if it is not known.
        coding: the content coding, such as ``gzip``.
    """
    kind = bare_type(content_type)
    is_cut = len(content) < size
    if kind == _MULTIPART:
        fields = None if is_cut else contained("read a form", lambda: _fields_of_parts(content, content_type), None)
        return described(size, content_type, coding) if fields is None else fields
    if not content or (not kind and not _is_unicode(content)):
        return described(size, content_type, coding)
    if not is_cut:
        return parsed(content, content_type)
    # Without half a character at the end.
    text = codecs.getincrementaldecoder(charset_of(content_type))("replace").decode(content)
    if not is_form(kind):
        return f"{text} {CUT}"
    fields = fields_of(text, len(content))
    return {**fields, CUT: True} if isinstance(fields, dict) else f"{fields} {CUT}"


def described(size: int | None, content_type: str, coding: str = "") -> str:
    """Size and type of a body that is not logged, such as ``<120 bytes of image/png>``."""
    words = ", ".join(filter(None, (bare_type(content_type)[:_LONGEST_WORD], coding[:_LONGEST_WORD])))
    if size is None:
        return f"<{words or 'a body'}>"
    return f"<{size} bytes of {words}>" if words else f"<{size} bytes>"


def described_file(headers: Mapping[str, str]) -> str:
    """Type and size of a body that is not read here, by its headers."""
    return described(length_of(headers), headers.get("content-type", ""), headers.get("content-encoding", ""))


def length_of(headers: Mapping[str, str]) -> int | None:
    """The Content-Length; None without one. Names of headers are in lower case."""
    length = headers.get("content-length", "").strip()
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None


def _is_unicode(content: bytes) -> bool:
    """True for UTF-8 text, perhaps cut within a character."""
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False


def _fields_of_parts(content: bytes, content_type: str) -> dict[str, Any] | None:
    """The fields of a multipart form by name, files by name, type and size; None if it can't be read."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    boundary = b"--" + (found[1] or found[2]).encode("latin-1")
    fields: dict[str, list[Any]] = {}
    parts = (b"\r\n" + content).split(b"\r\n" + boundary, _MOST_PARTS + 1)
    for part in parts[1 : _MOST_PARTS + 1]:
        if part.startswith(b"--"):
            break
        head, _, value = part.partition(b"\r\n\r\n")
        lines = head.decode("utf-8", "replace")
        name, file_name, kind = (pattern.search(lines) for pattern in (_NAME, _FILE_NAME, _TYPE))
        shown: Any = value.decode("utf-8", "replace")
        if file_name is not None:
            shown = {"filename": file_name[1] or file_name[2] or "", "size": len(value)}
            if kind is not None:
                shown["content_type"] = kind[1].strip()
        fields.setdefault((name[1] or name[2]) if name is not None else "", []).append(shown)
    if len(parts) > _MOST_PARTS + 1:
        fields[CUT] = [True]
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()} or None
