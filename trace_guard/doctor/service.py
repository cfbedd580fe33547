"""Checks of the way to Braintrust: names, TLS, key, project, clock, and a test trace."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from ..backends.braintrust import BraintrustBackend
from ..backends.connections import proxy_for
from ..backends.local import LocalStore
from ..backends.project_ids import ProjectIds
from ..deadline import Deadline
from ..errors import BackendError, BackendUnauthorized, BackendUnavailable
from ..guard import Guard
from ..journal.directory import STORE_NAME, locate
from ..redaction.outside_text import printable
from ..repair.query import quoted
from ..rows import Row
from ..settings import Settings, default_project
from .finding import Finding, Level, good, problem, skipped, warning

__all__ = ["send_findings", "service_findings"]

Read: TypeAlias = Callable[[str, Deadline], list[Row]]
"""Returns the rows of the trace with a ``root_span_id``."""

_SECONDS = 10.0
_PROJECT = "trace-guard-doctor"
_SKEW_SECONDS = 60.0
_READ_BACK_SECONDS = 20.0


def service_findings(settings: Settings) -> Iterator[Finding]:
    """Checks that need the network, each bounded by ten seconds."""
    if settings.backend == "local":
        yield good("destination", "the local store")
        return
    if settings.backend_name == "local":
        yield _no_key("destination", "the local store, as there is no key")
        return
    if not settings.api_key:
        yield _no_key("key", "there is none, and the backend is braintrust")
        return
    reached = True
    for url in dict.fromkeys((settings.app_url, settings.api_url)):
        if url is not None:
            finding = _reach(url)
            reached = reached and finding.level is not Level.PROBLEM
            yield finding
    if not reached:
        yield skipped("key", "not checked, as the service can't be reached")
        return
    backend = BraintrustBackend(settings, ProjectIds())
    try:
        yield from _account(backend, settings)
    finally:
        backend.close()


def _no_key(what: str, found: str) -> Finding:
    return problem(what, found, "set BRAINTRUST_API_KEY, or TRACE_GUARD_BACKEND=local to keep traces on this machine")


def _reach(url: str) -> Finding:
    """Look a host up and connect to it, with TLS where the URL has it."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    what = f"{host}:{port}"
    if proxy_for(f"{parts.scheme}://{parts.netloc}/"):
        return skipped(what, "reached by a proxy, which the next checks show to work")
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host) as secured:
                    return good(what, f"reached, {secured.version()}")
    except socket.gaierror as error:
        return problem(what, f"the name can't be found: {error.strerror}", "check the URL and this machine's DNS")
    except ssl.SSLError as error:
        return problem(
            what, f"TLS fails: {error.reason or error}", "set REQUESTS_CA_BUNDLE to the certificates of your network",
        )
    except OSError as error:
        return problem(
            what, f"can't be reached: {error.strerror or error}",
            "check the network, security groups and HTTPS_PROXY",
        )
    return good(what, "reached, without TLS")


def _account(backend: BraintrustBackend, settings: Settings) -> Iterator[Finding]:
    """The key, what it may do, the project, and the clock."""
    try:
        organisation = backend.organisation(Deadline.after(_SECONDS))
    except BackendUnauthorized as error:
        yield problem("key", f"refused: {printable(str(error))}", "check BRAINTRUST_API_KEY, and the URL of its region")
        return
    except BackendError as error:
        yield problem("key", printable(str(error)), "check BRAINTRUST_APP_URL and BRAINTRUST_ORG_NAME")
        return
    yield good("key", f"accepted, organisation {printable(organisation.name)}")
    yield from _project(backend, settings)
    yield _clock(backend, settings)


def _project(backend: BraintrustBackend, settings: Settings) -> Iterator[Finding]:
    wanted = settings.project_id or settings.project
    if wanted is None or wanted == default_project({}):
        yield skipped("project", "not named here: each function's own name is used")
        return
    try:
        found = backend.find_projects(wanted, Deadline.after(_SECONDS))
    except BackendError as error:
        yield problem("permissions", printable(str(error)), "use a key that may read this organisation's projects")
        return
    if found:
        yield good("project", f"{printable(found[0][1])}, {found[0][0]}")
    elif settings.project_id:
        yield problem(
            "project", f"there is no project with the id {printable(wanted)}",
            "correct TRACE_GUARD_PROJECT_ID, or unset it and name the project",
        )
    else:
        yield warning(
            "project", f"{printable(wanted)} does not exist yet; the first delivery makes it",
            "check the spelling of TRACE_GUARD_PROJECT if it should exist",
        )


def _clock(backend: BraintrustBackend, settings: Settings) -> Finding:
    """Compare the clock with the ``Date`` of an answer, which has whole seconds."""
    began = time.time()
    try:
        url = f"{settings.app_url.rstrip('/')}/ping"
        date = backend.transport.request("GET", url, b"", {}, Deadline.after(_SECONDS), attempts=1).date
        theirs = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (BackendError, ValueError, TypeError):
        return skipped("clock", "the service did not say its time")
    skew = (began + time.time()) / 2 - theirs
    if abs(skew) > _SKEW_SECONDS:
        return problem(
            "clock", f"this machine's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
            "let NTP set the clock: traces are dated wrongly",
        )
    return good("clock", f"within {_SKEW_SECONDS:.0f} s of the service's")


def send_findings(settings: Settings) -> Iterator[Finding]:
    """Send one trace, and read it back."""
    guard = Guard(replace(settings, project=settings.project or _PROJECT))
    try:
        with guard.invocation("trace-guard doctor", metadata={"doctor": True}) as invocation:
            root = invocation.span.root_span_id
        delivery = invocation.delivery
        if not guard.flush(_SECONDS):
            yield problem(
                "test trace", f"not delivered: {printable(delivery.error) if delivery else 'no answer'}",
                "see the findings above",
            )
            return
        with _reader(settings) as read:
            yield _read_back(read, root)
    finally:
        guard.close(timeout=1.0)


def _read_back(read: Read, root: str) -> Finding:
    """Wait until the trace can be read: the service indexes it within seconds."""
    limit = Deadline.after(_READ_BACK_SECONDS)
    error = "it is not there yet"
    while not limit.expired:
        try:
            rows = read(root, limit)
        except BackendUnavailable as failure:
            rows, error = [], printable(str(failure))
        except BackendError as failure:
            return problem("test trace", f"delivered, but it can't be read: {printable(str(failure))}",
                           "use a key that may read the project's logs")
        if any((row.get("metrics") or {}).get("end") for row in rows):
            return good("test trace", f"delivered and read back: {root}")
        time.sleep(0.2)
    return warning("test trace", f"delivered, but {error}: {root}", "look for it in Braintrust in a minute")


@contextlib.contextmanager
def _reader(settings: Settings) -> Iterator[Read]:
    """Reads the rows of a trace where the settings send them."""
    if settings.backend_name == "local":
        store = LocalStore(locate(settings.dir) / STORE_NAME)
        try:
            yield lambda root, deadline: store.rows(root)
        finally:
            store.close()
        return
    backend = BraintrustBackend(settings, ProjectIds())
    where = settings.project_id or settings.project or _PROJECT

    def read(root: str, deadline: Deadline) -> list[Row]:
        found = backend.find_projects(where, deadline)
        if not found:
            return []
        source = f"project_logs({quoted(found[0][0])}, shape => 'spans')"
        return backend.query(f"SELECT id, metrics FROM {source} WHERE root_span_id = {quoted(root)}", deadline)

    try:
        yield read
    finally:
        backend.close()
