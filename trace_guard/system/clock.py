"""The monotonic clock, in seconds, whatever tests do to ``time``.

Tests stop the clock, and ``freezegun`` replaces ``time.monotonic`` in every module that has it. A wait that reads a
stopped clock never ends. So this is the function of another instance of the ``time`` module, which nobody else has.
Times of day come from ``time.time``, which a test may set.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from typing import Any

__all__ = ["monotonic"]


def _own_time() -> Any:
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:  # another interpreter than CPython
        import time

        return time
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


monotonic: Callable[[], float] = _own_time().monotonic
