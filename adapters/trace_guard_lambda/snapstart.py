"""SnapStart: the process is initialised once, and many environments go on from a copy of its memory and disk.

Before the copy is made all that the init has logged is delivered and the project is looked up, so that no copy has
to; and no connection is left open, which no copy would find alive. After that each begins with a journal of its own.
Ids need no care: they come from the kernel's random numbers when a span begins, never from the init.

The hooks count as a part of the init, which may take minutes, and of the restore, which may take ten seconds.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from trace_guard import Deadline, Guard
from trace_guard.contain import contain, logger
from trace_guard.runtime.state import PROCESS

__all__ = ["prepare_for_snapshot"]

# An init that is delayed delays nobody but whoever publishes a version; and a dead backend must not fail it.
_MOST_SECONDS = 10.0

_guards: list[Guard] = []


def prepare_for_snapshot(guard: Guard, restored: Callable[[], object]) -> None:
    """Register what is to be done before the snapshot and after each restore from it.

    Args:
        restored: called after a restore.
    """
    try:
        from snapshot_restore_py import (  # type: ignore[import-untyped, unused-ignore]
            register_after_restore,
            register_before_snapshot,
        )
    except ImportError:  # it comes with the runtimes that have SnapStart, and with awslambdaric
        logger.debug("trace-guard has no hooks for the snapshot: snapshot_restore_py is missing")
        return
    if not _guards:
        register_before_snapshot(_before_snapshot)
        register_after_restore(_after_restore, restored)
    _guards.append(guard)


def _before_snapshot() -> None:
    for guard in _guards:
        with contain("get ready for the snapshot"):
            deadline = Deadline.after(min(_MOST_SECONDS, guard.settings.exit_timeout))
            name = None if guard.settings.project_id else guard.settings.project
            # On a thread, as it has a timeout of its own.
            looking_up = threading.Thread(target=guard.pipeline.find_out, args=(name,), daemon=True)
            looking_up.start()
            PROCESS.sdk.drain(deadline)
            looking_up.join(max(0.0, deadline.remaining))
            guard.pipeline.before_snapshot(deadline)
    with contain("close connections before the snapshot"):
        PROCESS.sdk.gateway.close()


def _after_restore(restored: Callable[[], object]) -> None:
    with contain("take note of the restore"):
        restored()
    for guard in _guards:
        with contain("go on after a restore"):
            guard.pipeline.after_restore()
            guard.start(defer_recovery=True)  # looks up again what could not be found out before
