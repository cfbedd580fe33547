"""Tables and lines for people, as wide as the terminal. A pipe gets lines of a bounded width.

``rich`` (extra ``cli``) is imported only for a terminal, for styles. Without it the output is plain text.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..redaction.outside_text import printable

__all__ = ["Cell", "Column", "Styled", "aligned", "lines_of", "plain", "print_table", "say", "table", "terminal"]

PIPE_WIDTH = 200
"""The most characters of a line of a table in a pipe."""

_GAP = "  "
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
# A column that is cut keeps so many characters, if there is room for them.
_LEAST = 8
# A column that may go below its row stays in it if it gets so many characters.
_LEAST_BESIDE = 30


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        right: align on the right, as for numbers.
        folds: cut long texts on a narrow screen, so that the other columns are shown in full.
        width: the least width in characters, for tables that are printed line by line.
        below: on a narrow terminal, the text goes on a line of its own below the row.
        spare: on a narrow terminal, the column is left out.
    """

    title: str
    right: bool = False
    folds: bool = False
    width: int = 0
    below: bool = False
    spare: bool = False


class Styled(NamedTuple):
    """A text with a style of ``rich``, which shows on a terminal only."""

    text: str
    style: str


Cell: TypeAlias = str | Styled


def terminal() -> Any:
    """A ``rich`` console; None if stdout is not a terminal or ``rich`` is not installed."""
    if not _is_terminal() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False)


def say(text: str, style: str = "", *, indent: str = "") -> None:
    """Print a line. On a terminal, a long one is broken between words.

    Args:
        indent: put before the lines that continue the first one.
    """
    console, text = terminal(), printable(text)
    if _is_terminal():
        text = "\n".join(
            textwrap.wrap(text, _width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
    if console is None:
        print(text)
    else:
        console.print(text, style=style, markup=False, soft_wrap=True)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table."""
    console = terminal()
    if console is not None:
        console.print(table(columns, rows), soft_wrap=True)
        return
    for line in aligned(columns, rows):
        print(line)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Any:
    """The table as an object that ``rich`` draws."""
    from rich.console import Group
    from rich.text import Text

    layout = _Layout(columns, list(rows), _width(), is_narrowing=True)
    drawn = [Text(""), Text.assemble(*layout.line([Styled(column.title, "bold") for column in columns]))]
    drawn.append(Text("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * layout.total, "dim"))
    for row in layout.rows:
        drawn.append(Text.assemble(*layout.line(row)))
        drawn += [Text.assemble(*below) for below in layout.below(row)]
    return Group(*drawn, Text(""))


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], header: bool = True) -> Iterator[str]:
    """The lines of a table in plain text.

    Args:
        header: start with the titles.
    """
    layout = _Layout(columns, rows, _width(), is_narrowing=_is_terminal())
    if header:
        yield _joined(layout.line([column.title.upper() for column in columns]))
    for row in layout.rows:
        yield _joined(layout.line(row))
        yield from map(_joined, layout.below(row))


def lines_of(text: str, indent: str) -> list[str]:
    """A text in full, in lines as wide as the screen, without characters that steer the terminal."""
    width = max(20, _width() - len(indent))
    found: list[str] = []
    for line in text.split("\n"):
        safe = "".join(
            letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line.expandtabs(4)
        )
        inner = safe[: len(safe) - len(safe.lstrip())]
        found += textwrap.wrap(
            safe, width, subsequent_indent=inner, break_long_words=not _is_terminal(), break_on_hyphens=False,
            drop_whitespace=False,
        ) or [""]
    return [f"{indent}{line}".rstrip() for line in found]


def plain(cell: Cell) -> str:
    """The text of a cell."""
    return printable(cell.text if isinstance(cell, Styled) else cell, mark="\N{REPLACEMENT CHARACTER}")


class _Layout:
    """Which columns of a table are shown, where, and how wide.

    Args:
        width: the most characters of a line.
        is_narrowing: columns may be left out, or go below their row.

    Attributes:
        total: the width of the longest line.
    """

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, *, is_narrowing: bool
    ) -> None:
        self._columns = columns
        self._width = width
        self.rows = rows
        self._widths = [
            max([column.width, _cells(column.title), *(_cells(plain(row[index])) for row in rows if index < len(row))])
            for index, column in enumerate(columns)
        ]
        self._shown = list(range(len(columns)))
        self._below: list[int] = []
        if is_narrowing:
            self._move_below()
            self._leave_out()
        self._shrink([index for index in self._shown if columns[index].folds or columns[index].below], _LEAST)
        self._shrink(self._shown, 1)
        self.total = self._total()

    def line(self, row: Sequence[Cell]) -> list[tuple[str, str]]:
        """The parts of a line, each with its style."""
        parts: list[tuple[str, str]] = []
        for index in self._shown:
            cell = row[index] if index < len(row) else ""
            text = _cut(plain(cell), self._widths[index])
            padding = " " * (self._widths[index] - _cells(text))
            parts.append((padding + text if self._columns[index].right else text + padding, _style(cell)))
            parts.append((_GAP, ""))
        return parts[:-1]

    def below(self, row: Sequence[Cell]) -> Iterator[list[tuple[str, str]]]:
        """The lines below a row."""
        for index in self._below:
            cell = row[index] if index < len(row) else ""
            if plain(cell):
                label = f"    {self._columns[index].title}: "
                yield [(label, "dim"), (_cut(plain(cell), max(_LEAST, self._width - len(label))), _style(cell))]

    def _total(self) -> int:
        return sum(self._widths[index] for index in self._shown) + len(_GAP) * (len(self._shown) - 1)

    def _move_below(self) -> None:
        for index in [index for index in self._shown if self._columns[index].below]:
            missing = self._total() - self._width
            if missing > 0 and self._widths[index] - missing < min(self._widths[index], _LEAST_BESIDE):
                self._shown.remove(index)
                self._below.append(index)

    def _leave_out(self) -> None:
        for index in [index for index in self._shown if self._columns[index].spare]:
            if self._total() > self._width:
                self._shown.remove(index)

    def _shrink(self, indexes: Sequence[int], least: int) -> None:
        """Narrow the widest of these columns until the table fits."""
        floors = {index: max(least, min(self._widths[index], self._columns[index].width)) for index in indexes}
        while self._total() > self._width:
            wide = [index for index in indexes if self._widths[index] > floors[index]]
            if not wide:
                return
            self._widths[max(wide, key=lambda index: self._widths[index])] -= 1


def _joined(parts: Sequence[tuple[str, str]]) -> str:
    return "".join(text for text, _ in parts).rstrip()


def _style(cell: Cell) -> str:
    return cell.style if isinstance(cell, Styled) else ""


def _cut(text: str, width: int) -> str:
    """The beginning of a text that fits, with an ellipsis if it is cut."""
    if _cells(text) <= width:
        return text
    kept = text[: max(0, width - 1)]
    while _cells(kept) > width - 1:
        kept = kept[:-1]
    return kept.rstrip() + _sign()


def _sign() -> str:
    try:
        _ELLIPSIS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "~"
    return _ELLIPSIS


def _cells(text: str) -> int:
    """How many columns of the screen a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _width() -> int:
    return shutil.get_terminal_size().columns if _is_terminal() else PIPE_WIDTH
