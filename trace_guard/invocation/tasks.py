"""The task of an event loop that the current code runs in."""

from __future__ import annotations

import sys
import weakref
from typing import Any

__all__ = ["current_task"]


def current_task() -> weakref.ref[Any] | None:
    """The current task of asyncio, which is not kept alive; None outside an event loop of asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
    return None if task is None else weakref.ref(task)
