"""The audit file: one line of JSON for each trace that has been closed.

Before rows are sent, their lines go to ``FILE.pending``. A run that is killed between the two leaves it behind; the
next one finds out which of these traces have been closed, and writes their lines then.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..rows import Row

__all__ = ["Audit"]


class Audit:
    """Appends lines to a file.

    Raises:
        SettingsError: the file can't be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._pending = self.path.with_name(f"{self.path.name}.pending")
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()

    def begin(self, lines: Sequence[Row]) -> None:
        """Write down what is about to be closed."""
        with self._errors():
            temporary = self._pending.with_name(f"{self._pending.name}.new")
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            os.replace(temporary, self._pending)

    def commit(self) -> None:
        """Append what :meth:`begin` has written down: it has been closed."""
        self.settle(lambda line: True)

    def settle(self, is_closed: Callable[[Row], bool]) -> None:
        """Append those of the lines that are left over from :meth:`begin` for which ``is_closed`` is true.

        Each line is appended once, also if an earlier run was killed in the middle of this.
        """
        with self._errors():
            try:
                left = self._pending.read_text().splitlines(keepends=True)
            except FileNotFoundError:
                return
            text = "".join(line for line in left if is_closed(_parsed(line)))
            with open(self.path, "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - len(text.encode()) - 1))
                tail = file.read()
                # A killed run may have appended a part of the lines.
                done = next((length for length in range(len(text.encode()), 0, -1)
                             if tail.endswith(text.encode()[:length])), 0) if text and tail else 0
                file.seek(0, os.SEEK_END)
                file.write(text.encode()[done:])
                file.flush()
                os.fsync(file.fileno())
            self._pending.unlink()

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except OSError as error:
            raise SettingsError(f"the audit file {self.path} can't be written: {error.strerror}") from error


def _parsed(line: str) -> Row:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
