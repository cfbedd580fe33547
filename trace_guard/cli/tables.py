"""Tables and lines for people: drawn by ``rich`` on a terminal, aligned plain text elsewhere.

``rich`` (extra ``cli``) is imported only for a terminal. Without it the output is plain text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..redaction.outside_text import printable

__all__ = ["Cell", "Column", "Styled", "aligned", "plain", "print_table", "say", "table", "terminal"]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        right: align on the right, as for numbers.
        folds: wrap long texts on a narrow screen, so that the other columns keep to one line.
        width: the least width in characters, for tables that are printed line by line.
    """

    title: str
    right: bool = False
    folds: bool = False
    width: int = 0


class Styled(NamedTuple):
    """A text with a style of ``rich``, which shows on a terminal only."""

    text: str
    style: str


Cell: TypeAlias = str | Styled


def terminal() -> Any:
    """A ``rich`` console; None if stdout is not a terminal or ``rich`` is not installed."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """Print one line."""
    console = terminal()
    if console is None:
        print(printable(text))
    else:
        console.print(printable(text), style=style, markup=False, soft_wrap=True)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table: at its full width in a pipe, at the width of the screen on a terminal."""
    console = terminal()
    if console is not None:
        console.print(table(columns, rows))
        return
    for line in aligned(columns, rows):
        print(line)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Any:
    """The table as an object that ``rich`` draws."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column in columns:
        drawn.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=not column.folds, overflow="fold",
        )
    for row in rows:
        drawn.add_row(*(Text(plain(cell), cell.style if isinstance(cell, Styled) else "") for cell in row))
    return drawn


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], header: bool = True) -> Iterator[str]:
    """The lines of a table in plain text.

    Args:
        header: start with the titles.
    """
    texts = [[plain(cell) for cell in row] for row in rows]
    titles = [column.title.upper() for column in columns]
    widths = [
        max(column.width, len(title), *(len(row[index]) for row in texts), 0)
        for index, (column, title) in enumerate(zip(columns, titles, strict=True))
    ]
    for row in [titles, *texts] if header else texts:
        yield "  ".join(
            text.rjust(width) if column.right else text.ljust(width)
            for column, text, width in zip(columns, row, widths, strict=True)
        ).rstrip()


def plain(cell: Cell) -> str:
    """The text of a cell."""
    return printable(cell.text if isinstance(cell, Styled) else cell, mark="\N{REPLACEMENT CHARACTER}")
