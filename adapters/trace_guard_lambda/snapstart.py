"""SnapStart: Lambda initialises the process once and restores many environments from a copy of its memory and disk.

The hook before the snapshot delivers what the init has logged, looks the project up, and closes all connections, which
would be dead in the copies. After a restore, each copy starts a journal of its own. Span ids need no attention: they
come from the kernel's random numbers when a span starts, never from the init.

The hooks count as part of the init, which may take minutes, and of the restore, which may take ten seconds.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

from collections.abc import Callable

from trace_guard import Deadline, Guard
from trace_guard.contain import contain, logger
from trace_guard.runtime.state import PROCESS
from trace_guard.system.threads import QuietThread

__all__ = ["prepare_for_snapshot"]

# The delay only affects the publishing of a version, but a dead backend must not make the init time out.
_MOST_SECONDS = 10.0

_guards: list[Guard] = []


def prepare_for_snapshot(guard: Guard, restored: Callable[[], object]) -> None:
    """Register the hooks before the snapshot and after each restore.

    Args:
        restored: called after each restore.
    """
    try:
        from snapshot_restore_py import (  # type: ignore[import-untyped, unused-ignore]
            register_after_restore,
            register_before_snapshot,
        )
    except ImportError:  # the runtimes with SnapStart and awslambdaric have it
        logger.debug("there are no hooks for the snapshot: snapshot_restore_py is missing")
        return
    if not _guards:
        register_before_snapshot(_before_snapshot)
        register_after_restore(_after_restore, restored)
    _guards.append(guard)


def _before_snapshot() -> None:
    for guard in _guards:
        with contain("prepare for the snapshot"):
            deadline = Deadline.after(min(_MOST_SECONDS, guard.settings.exit_timeout))
            name = None if guard.settings.project_id else guard.settings.project
            # On a thread, as the look-up has a timeout of its own.
            looking_up = QuietThread(target=guard.pipeline.lookup.find_out, args=(name,), daemon=True)
            looking_up.start()
            PROCESS.sdk.drain(deadline)
            looking_up.join(max(0.0, deadline.remaining))
            guard.pipeline.before_snapshot(deadline)
    with contain("close connections before the snapshot"):
        PROCESS.sdk.gateway.close()


def _after_restore(restored: Callable[[], object]) -> None:
    with contain("record the restore"):
        restored()
    for guard in _guards:
        with contain("continue after a restore"):
            guard.pipeline.after_restore()
            guard.start(defer_recovery=True)  # repeats look-ups that failed before the snapshot
