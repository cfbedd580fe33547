"""``trace-guard run``: runs a command under the supervisor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..settings import Settings

__all__ = ["run_command"]

_LONGEST_NAME = 200


def run_command(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    """Run the command and exit as it exits; see :class:`trace_guard.supervisor.Supervisor`.

    Invalid settings do not keep the command from running.
    """
    if not hasattr(os, "fork"):
        print("trace-guard: run needs signals and fork, which Windows does not have; use `trace_guard.guard_job` in "
              "the program itself", file=sys.stderr)
        return 2
    if os.environ.get("TRACE_GUARD_DISABLED", "").strip().lower() in ("true", "1", "yes", "on"):
        from ..supervisor.child import execute, initial_environment
        from ..supervisor.signals import Signals

        Signals().restore()
        return execute(command, initial_environment())[0]
    from ..supervisor import Supervisor
    from ..supervisor.command import name_of_command

    # The name is handed to the command in its environment, whose size the kernel limits.
    name = (arguments.name or name_of_command(command))[:_LONGEST_NAME]
    directory = _absolute(getattr(arguments, "dir", None) or os.environ.get("TRACE_GUARD_DIR", "").strip())
    return Supervisor(
        command, lambda: settings_of(arguments.project, directory, name), name=name, grace=arguments.grace,
        directory=directory,
    ).run()


def _absolute(directory: str) -> Path | None:
    """The absolute state directory, since the command may change its working directory; None if none is given, or if
    the current working directory no longer exists."""
    try:
        return Settings.from_env({}, dir=directory).dir if directory else None
    except OSError:
        return None


def settings_of(project: str | None, directory: Path | None, name: str) -> Settings:
    """The environment's settings. Without a configured project the command's name is the project.

    Raises:
        SettingsError: a variable has an invalid value.
    """
    settings = Settings.from_env(project=project, dir=directory)
    if settings.project == Settings.from_env({}).project and not os.environ.get("TRACE_GUARD_PROJECT"):
        return Settings.from_env(project=project or name, dir=directory)
    return settings
