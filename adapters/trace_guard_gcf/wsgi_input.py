"""A ``wsgi.input`` that reports what the application reads from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trace_guard.http.captures import RequestCopy

__all__ = ["CopiedInput"]


class CopiedInput:
    """The server's input with all its methods and attributes. It reads only when the application does.

    https://peps.python.org/pep-3333/#input-and-error-streams
    """

    def __init__(self, stream: Any, copy: RequestCopy) -> None:
        self._stream = stream
        self._copy = copy
        # How many of the next bytes have been read before, as the application went back.
        self._again = 0

    def read(self, *args: Any, **keywords: Any) -> Any:
        return self._read(self._stream.read, args, keywords)

    def readline(self, *args: Any, **keywords: Any) -> Any:
        return self._read(self._stream.readline, args, keywords)

    def readlines(self, *args: Any, **keywords: Any) -> Any:
        lines = self._stream.readlines(*args, **keywords)
        if isinstance(lines, list):
            for line in lines:
                self._taken(line)
        return lines

    def __iter__(self) -> Iterator[Any]:
        lines = iter(self._stream)
        return self if lines is self._stream else self._lines(lines)

    def __next__(self) -> Any:
        try:
            line = next(self._stream)
        except StopIteration:
            self._taken(b"", is_last=True)
            raise
        self._taken(line)
        return line

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy that is being made
            raise AttributeError(name)
        value = getattr(self._stream, name)
        if name in ("read1", "readall"):
            return lambda *args, **keywords: self._read(value, args, keywords)
        if name in ("readinto", "readinto1"):
            return lambda buffer: self._read_into(value, buffer)
        return self._moving(value) if name == "seek" else value

    def _read(self, read: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        data = read(*args, **keywords)
        self._taken(data, is_last=data == b"" and args[:1] != (0,) and not keywords)
        return data

    def _read_into(self, read: Callable[[Any], Any], buffer: Any) -> Any:
        count = read(buffer)
        if isinstance(count, int):
            self._taken(memoryview(buffer).cast("B")[:count], is_last=not count and bool(len(buffer)))
        return count

    def _moving(self, seek: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any, **keywords: Any) -> Any:
            position = seek(*args, **keywords)
            if isinstance(position, int):
                self._again = self._copy.size - position
                if self._again < 0:
                    self._copy.drop()  # what is between is not known
            return position

        return moved

    def _lines(self, lines: Iterator[Any]) -> Iterator[Any]:
        for line in lines:
            self._taken(line)
            yield line
        self._taken(b"", is_last=True)

    def _taken(self, data: Any, *, is_last: bool = False) -> None:
        if self._again > 0 and data:
            self._again, data = self._again - len(data), data[self._again :]
        self._copy.take(data, is_last=is_last)
