"""``trace-guard run``: a command under supervision."""

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
    """Run it, and end as it does; see :class:`trace_guard.supervisor.Supervisor`.

    Settings that are not accepted don't keep the command from running.
    """
    if not hasattr(os, "fork"):
        print("trace-guard: run needs signals and fork, which Windows does not have; use `trace_guard.guard_job` in "
              "the program itself", file=sys.stderr)
        return 2
    if os.environ.get("TRACE_GUARD_DISABLED", "").strip().lower() in ("true", "1", "yes", "on"):
        from ..supervisor.child import environment_of_command, execute
        from ..supervisor.signals import Signals

        Signals().leave()
        return execute(command, environment_of_command())[0]
    from ..supervisor import Supervisor
    from ..supervisor.command import name_of_command

    # It is in the environment of the command, where the kernel has bounds for it.
    name = (arguments.name or name_of_command(command))[:_LONGEST_NAME]
    directory = _absolute(getattr(arguments, "dir", None) or os.environ.get("TRACE_GUARD_DIR", "").strip())
    return Supervisor(
        command, lambda: settings_of(arguments.project, directory, name), name=name, grace=arguments.grace,
        directory=directory,
    ).run()


def _absolute(directory: str) -> Path | None:
    """For both, as the command may change its working directory; None if none is given, or if there is no such any
    more that it could be relative to."""
    try:
        return Settings.from_env({}, dir=directory).dir if directory else None
    except OSError:
        return None


def settings_of(project: str | None, directory: Path | None, name: str) -> Settings:
    """Those of the environment. Without a project the name of the command says more than that of this one.

    Raises:
        SettingsError: a variable has a value that is not accepted.
    """
    settings = Settings.from_env(project=project, dir=directory)
    if settings.project == Settings.from_env({}).project and not os.environ.get("TRACE_GUARD_PROJECT"):
        return Settings.from_env(project=project or name, dir=directory)
    return settings
