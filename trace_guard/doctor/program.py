"""Checks of a program: its module is imported, and what it did to the SDK is looked at."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator

from ..redaction.outside_text import printable
from ..runtime.state import PROCESS
from ..settings import Settings
from .finding import Finding, good, problem, skipped, warning

__all__ = ["program_findings"]

_PRE_FORK = ("gunicorn", "uwsgi", "functions_framework", "celery")


def program_findings(module: str, settings: Settings) -> Iterator[Finding]:
    """Import a module, such as ``app`` or ``package.main``, as its server does, and look at what is there then."""
    sys.path.insert(0, os.getcwd())
    before = set(threading.enumerate())
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - any module of the user's
        yield problem("module", f"{printable(module)} can't be imported: {printable(repr(error))}", "mend the import")
        return
    pipelines = PROCESS.logins.guards
    if not pipelines:
        yield problem(
            "guard", f"{printable(module)} guards nothing", "decorate its handler with guard_handler, or make a Guard",
        )
    else:
        yield good("guard", f"{len(pipelines)} made")
    if "braintrust" not in sys.modules:
        yield skipped("SDK", "the module does not import braintrust")
        return
    if pipelines:
        yield _adapter()
    yield from _project(settings)
    names = sorted(thread.name for thread in set(threading.enumerate()) - before)
    started = [printable(name) for name in names if not name.startswith("trace-guard")]
    servers = [name for name in _PRE_FORK if name in sys.modules]
    if servers and started:
        yield warning(
            "fork", f"the import starts threads ({', '.join(started)}), and {servers[0]} forks its workers afterwards",
            "start threads, and log spans, in the worker",
        )
    else:
        yield good("fork", "no thread of others was started by the import")


def _adapter() -> Finding:
    if PROCESS.sdk.installed:
        return good("HTTP adapter", "trace-guard's is in place")
    return warning(
        "HTTP adapter", "another one has replaced trace-guard's: what the SDK sends is not kept on disk first",
        "call set_http_adapter before the guard is made; trace-guard then uses your adapter",
    )


def _project(settings: Settings) -> Iterator[Finding]:
    own, named = settings.project_id or settings.project, PROCESS.sdk.loggers.users_project()
    if own and named and own not in named:
        yield warning(
            "project", f"init_logger() logs to {printable(named[0])}, the guard to {printable(own)}",
            "use one name for both, or spans outside of invocations go elsewhere",
        )
