"""Checks of this machine: Python, the SDK, the state directory, the platform."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import JournalUnavailable
from ..jobs.platforms import detect
from ..journal.directory import describe
from ..runtime.status import read_status
from ..settings import Settings, is_instance_temporary, unknown_variables
from .finding import Finding, good, problem, skipped, warning

__all__ = ["machine_findings"]

_OLDEST_SDK = (0, 4)
_HANGING_SDK = (0, 46, 1)
_EXTENSIONS = Path("/opt/extensions")
# Datadog's extension, and the OTLP ports of collectors and of the vendors' extensions.
_PEERS = {8124: "Datadog's Lambda extension", 4318: "an OpenTelemetry collector"}


def machine_findings(settings: Settings, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Checks that need no network."""
    yield _python()
    yield from _sdk()
    yield from _variables(environ)
    yield from _directory(settings, environ)
    yield _undelivered(settings)
    yield from _platform(settings, environ)


def _python() -> Finding:
    name = "Python"
    running = ".".join(map(str, sys.version_info[:3]))
    if (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2) and _sdk_version() >= _HANGING_SDK:
        return problem(
            name, f"with {running} and this SDK, a short program that has not logged in hangs at its exit",
            "use Python 3.12.3 or newer",
        )
    return good(name, running)


def _sdk() -> Iterator[Finding]:
    name = "Braintrust SDK"
    try:
        text = version("braintrust")
    except PackageNotFoundError:
        yield problem(name, "it is not installed", "pip install braintrust")
        return
    if _sdk_version() < _OLDEST_SDK:
        yield problem(name, f"{text} is too old", 'pip install "braintrust>=0.4"')
    else:
        yield good(name, text)


def _sdk_version() -> tuple[int, ...]:
    try:
        words = version("braintrust").split(".")
    except PackageNotFoundError:
        return ()
    return tuple(int(word) for word in words[:3] if word.isdecimal())


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    for said in unknown_variables(environ):
        yield warning("settings", said, "correct the name, or unset the variable")
    if environ.get("TRACE_GUARD_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        yield problem("settings", "TRACE_GUARD_DISABLED is set: nothing is traced", "unset TRACE_GUARD_DISABLED")


def _directory(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = "directory"
    about = describe(settings.dir)
    if about.network:
        yield warning(
            name, f"{settings.dir} is on a network file system ({about.kind}), whose locks are unreliable; "
            f"{about.path} is used", "set TRACE_GUARD_DIR to a local disk",
        )
    existing = next(path for path in (about.path, *about.path.parents) if path.exists())
    if not _takes_files(existing):
        yield problem(
            name, f"{existing} can't be written: traces are kept in memory, and a process that is killed loses them",
            "set TRACE_GUARD_DIR to a directory that this user can write to",
        )
        return
    free, wanted = shutil.disk_usage(existing).free, settings.max_journal_bytes
    if free < wanted:
        yield warning(
            name, f"{existing} has {free >> 20} MB left, journals may take {wanted >> 20} MB",
            "free some space, or lower TRACE_GUARD_MAX_JOURNAL_BYTES",
        )
    if about.memory:
        yield warning(
            name, f"{about.path} is in memory ({about.kind}): it counts against the memory limit, and dies with the "
            "machine", "set TRACE_GUARD_DIR to a disk if there is one",
        )
    elif is_instance_temporary(environ):
        yield good(name, f"{about.path}, which dies with the instance")
    else:
        yield good(name, str(about.path))


def _takes_files(directory: Path) -> bool:
    """Try it: permissions do not tell, for root or on a read-only file system."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".trace-guard-doctor-", dir=directory))
    except OSError:
        return False
    return True


def _undelivered(settings: Settings) -> Finding:
    try:
        problems = read_status(settings).problems
    except JournalUnavailable as error:
        return problem("left over", str(error), "set TRACE_GUARD_DIR")
    if not problems:
        return good("left over", "nothing")
    return warning("left over", "; ".join(problems), "see trace-guard status")


def _platform(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = "platform"
    if "AWS_LAMBDA_FUNCTION_NAME" in environ:
        yield good(name, f"AWS Lambda, function {environ['AWS_LAMBDA_FUNCTION_NAME']}")
        yield from _extensions()
    elif "K_SERVICE" in environ:
        yield from _cloud_run(settings, environ)
    else:
        job = detect(environ)
        yield good(name, job.name if job is not None else "none that is known")
    for port, peer in _PEERS.items():
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                yield skipped("peer", f"{peer} listens on port {port}; its traces are its own")


def _extensions() -> Iterator[Finding]:
    try:
        found = sorted(path.name for path in _EXTENSIONS.iterdir())
    except OSError:
        found = []
    if "trace-guard" in found:
        yield good("extension", "trace-guard's extension is in the layer: traces survive the death of the runtime")
    else:
        yield warning(
            "extension", "trace-guard's extension is not there: the trace of a runtime that is killed is closed by the "
            "next start", "add the layer that `trace-guard layer` builds, if that is too late",
        )
    others = [other for other in found if other != "trace-guard"]
    if others:
        yield skipped("peer", f"other extensions: {', '.join(others)}")


def _cloud_run(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    timeout = environ.get("CLOUD_RUN_TIMEOUT_SECONDS", "")
    yield good("platform", f"Cloud Run, service {environ['K_SERVICE']}")
    if timeout.isdecimal() and settings.flush_timeout >= float(timeout):
        yield problem(
            "timeout", f"a response may wait {settings.flush_timeout:g} s for delivery, a request has {timeout} s",
            "lower TRACE_GUARD_FLUSH_TIMEOUT",
        )
