"""Python files: which ones are read, how they are decoded, and the comments that silence a finding."""

from __future__ import annotations

import io
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Silenced", "decoded", "is_candidate", "python_files"]

_SKIPPED = frozenset(("__pycache__", "build", "dist", "node_modules", "site-packages", "venv"))
_OTHERS = (b"opentelemetry", b"mlflow", b"langfuse", b"ddtrace", b"sentry", b"tracer")
_IGNORE = re.compile(r"#\s*trace-guard:\s*ignore(?!-)(?:\[([^\]]*)\])?")
_NOQA = re.compile(r"#\s*noqa:\s*([A-Z0-9, ]+)", re.IGNORECASE)
_EVERY = "*"


def python_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files to read: those that are named, and the ``.py`` files of directories that are named, each once.

    Directories that are hidden or hold packages or builds are skipped. Links to directories are not followed.

    Raises:
        OSError: a path does not exist.
    """
    seen = set()
    for path in paths:
        for file in _below(path) if path.is_dir() else [path]:
            place = os.path.realpath(file)
            if place not in seen:
                seen.add(place)
                yield file


def _below(directory: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                yield Path(place, name)


def is_candidate(data: bytes) -> bool:
    """A quick look at the text: it names the SDK, or starts spans below one that it is given."""
    return b"braintrust" in data or (b".start_span(" in data and not any(name in data for name in _OTHERS))


def decoded(data: bytes) -> str:
    """The text of a source file, by its byte order mark and its coding cookie.

    Raises:
        SyntaxError: the encoding is unknown.
        UnicodeDecodeError: a byte is invalid.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline="").read()


class Silenced:
    """The lines on which comments silence findings: ``# trace-guard: ignore[TG001]``, ``# noqa: TG001``."""

    def __init__(self, text: str) -> None:
        self._codes: dict[int, set[str]] = {}
        if not (_IGNORE.search(text) or _NOQA.search(text)):
            return
        try:
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT:
                    codes = set(_codes_in(token.string))
                    self._codes.setdefault(token.start[0], set()).update(codes)
        except (tokenize.TokenError, SyntaxError):
            return  # the parser is more lenient than the tokenizer; findings are then shown

    def has(self, code: str, first: int, last: int) -> bool:
        """A comment on one of these lines silences the code."""
        return any({code, _EVERY} & self._codes.get(line, set()) for line in range(first, last + 1))


def _codes_in(comment: str) -> Iterator[str]:
    for found in _IGNORE.finditer(comment):
        yield from _split(found[1]) if found[1] is not None else [_EVERY]
    for found in _NOQA.finditer(comment):
        yield from _split(found[1])


def _split(codes: str) -> list[str]:
    return [code.upper() for code in re.split(r"[,\s]+", codes) if code]
