"""An event that stays usable when a signal handler raises.

``threading.Event`` takes its lock in Python code. An exception that strikes just after, such as Ctrl-C or a time limit,
leaves the lock taken for ever, and every thread that uses the event hangs.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["SafeEvent"]


class _Condition(threading.Condition):
    # The ``with`` statement finds the lock's own methods here. They are C code, in which no handler runs.
    __enter__: Any = property(lambda self: self._lock.__enter__)
    __exit__: Any = property(lambda self: self._lock.__exit__)


class SafeEvent(threading.Event):
    """A ``threading.Event`` for threads that signal handlers may interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = _Condition(threading.Lock())
