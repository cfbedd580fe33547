"""The one module that touches the inside of the Braintrust SDK.

Shown to work from 0.4 on; what a release does not have is found out, never assumed from its version.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import braintrust
import braintrust.logger as bt
from braintrust.span_types import SpanTypeAttribute
from requests.adapters import HTTPAdapter

from .contain import contain, logger
from .deadline import Deadline
from .gateway import LOCAL_KEY, Gateway, GatewayHost
from .identity import ORG_PLACEHOLDER, Identity, Organisation, is_placeholder, project_name
from .rows import Row

__all__ = ["Sdk"]

_MARK = "_made_by_trace_guard"
_PARENT_KEY = "braintrust.parent="


class Sdk:
    """The SDK of this process with the gateway in place. There is one; guards share it.

    Attributes:
        no_span: the span that does nothing.
    """

    no_span: Any = bt.NOOP_SPAN

    def __init__(self, host: GatewayHost) -> None:
        self.gateway = Gateway(host)
        self._host = host
        self._loggers: dict[tuple[str | None, str | None], Any] = {}
        self._lock = threading.Lock()
        self._drainer = _Drainer(self)
        options = getattr(bt, "SpanInternalOptions", None)
        self._skips_first_row = "skip_initial_span_write" in getattr(options, "__annotations__", {})
        self._plain_flush: Callable[..., None] | None = None

    def install(self) -> None:
        """Put the gateway in, and log in through it, which needs no network.

        Done once more whenever somebody has set another adapter since: theirs is then asked for all that
        passes through.
        """
        current = bt._http_adapter
        if current is self.gateway:
            return
        with self._lock:
            if isinstance(current, HTTPAdapter) and current is not self.gateway:
                self.gateway.inner = current
            bt.set_http_adapter(self.gateway)
            state = bt._state
            login = state.__dict__.get("login") or _Login(state, self.gateway, self.moved)
            state.__dict__["login"] = login
            if state.logged_in and state.login_token not in (None, LOCAL_KEY):
                self._adopt_login(state)
            # Some Pythons 3.12 hang at exit if the SDK starts the thread of its first look-up there.
            login.early()
            self._wrap_flush(state)

    def _adopt_login(self, state: Any) -> None:
        """The user has logged in before the gateway was there: rows go where that login leads."""
        self._host.key_given(state.login_token, state.app_url, os.environ.get("BRAINTRUST_ORG_NAME") or None)
        if state.org_id and state.org_name and state.org_id != ORG_PLACEHOLDER:
            self._host.organisation_given(Organisation(state.org_id, state.org_name, state.api_url))

    @property
    def installed(self) -> bool:
        return bt._http_adapter is self.gateway

    def uninstall(self) -> None:
        """Take the gateway out again, and put back the adapter that it stood before."""
        state = bt._state
        with self._lock:
            if bt._http_adapter is self.gateway:
                if self.gateway.inner is not None:
                    bt.set_http_adapter(self.gateway.inner)
                else:
                    bt._http_adapter = None
                    for connection in (state._app_conn, state._api_conn):
                        if connection is not None:
                            connection.adapter = None
                            connection._reset()
            state.__dict__.pop("login", None)
            if state.login_token == LOCAL_KEY:
                state.logged_in = False
            background = state.global_bg_logger()
            background.__dict__.pop("flush", None)
            self._plain_flush = None

    # Spans

    def start_root(
        self,
        name: str,
        *,
        project: str | None,
        project_id: str | None,
        parent: str | Mapping[str, str] | None,
        started: float,
    ) -> Any:
        """Open the root span of an invocation: below ``parent``, else below the span that is current, else in
        the user's own logger, else in ours for that project.

        Raises:
            Exception: whatever the SDK raises.
        """
        internal = {"internal": {"skip_initial_span_write": True}} if self._skips_first_row else {}
        options: dict[str, Any] = {"name": name, "start_time": started, **internal}
        if parent is not None:
            return braintrust.start_span(
                parent=parent if isinstance(parent, str) else dict(parent),  # type: ignore[arg-type,unused-ignore]
                type=SpanTypeAttribute.TASK,
                **options,
            )
        current = braintrust.current_span()
        if current is not self.no_span:
            return current.start_span(**options)
        chosen = self._users_logger() or self._logger(project, project_id)
        return chosen.start_span(**options)

    def prepare(self, project: str | None, project_id: str | None) -> bool:
        """Do early what the SDK would do with the first span: its look-up of the project takes a thread, which
        some moments, such as the end of the interpreter, do not have. False if the user has a logger, whose
        project it is then."""
        theirs = self._users_logger()
        _ = (theirs or self._logger(project, project_id)).id
        return theirs is None

    @staticmethod
    def _users_logger() -> Any:
        """The logger that the user has made with ``init_logger``, or None."""
        current = braintrust.current_logger()
        return None if current is None or _MARK in current.__dict__ else current

    def _logger(self, project: str | None, project_id: str | None) -> Any:
        key = (project, project_id)
        found = self._loggers.get(key)
        if found is None:
            with self._lock:
                found = self._loggers.get(key)
                if found is None:
                    before = braintrust.current_logger()
                    found = braintrust.init_logger(
                        project=project, project_id=project_id, set_current=before is None
                    )
                    # So that it is told from a user's own, also by a guard that comes after this one.
                    found.__dict__[_MARK] = True
                    self._loggers[key] = found
        return found

    def start_row(self, span: Any, name: str, started: float, metadata: Mapping[str, Any]) -> Row:
        """The first row of a span that the SDK has opened: identity, start and metadata, no payload."""
        return {
            "_is_merge": True,
            **self.identity_of(span),
            "created": datetime.fromtimestamp(started, timezone.utc).isoformat(),
            "metrics": {"start": started},
            "span_attributes": {"name": name, "type": "task"},
            "metadata": dict(metadata),
        }

    @staticmethod
    def adoptable(
        parent: str | Mapping[str, str] | None,
    ) -> tuple[str | Mapping[str, str] | None, dict[str, str]]:
        """The parent if it is in Braintrust, and the ids of one that is not, as metadata.

        A foreign ``traceparent`` without ``baggage: braintrust.parent`` names a span that Braintrust has never
        seen; a root below it would have a dead parent.
        """
        if parent is None or isinstance(parent, str):
            return parent or None, {}
        headers = {str(name).lower(): str(value) for name, value in parent.items()}
        traceparent = headers.get("traceparent", "")
        if not traceparent:
            return None, {}
        extract = getattr(braintrust, "extract_trace_context", None)
        if extract is not None and _PARENT_KEY in headers.get("baggage", ""):
            context = extract(headers)
            if context:
                return context, {}
        return None, {"traceparent": traceparent}

    @staticmethod
    def error_text(error: BaseException) -> str:
        """An exception as the SDK writes it, with its traceback; through the user's masking function, which the
        SDK itself does not apply to errors."""
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        mask = _masking_function()
        if mask is None:
            return text
        try:
            return str(mask(text))
        except Exception:  # noqa: BLE001 - as the SDK does: rather nothing than something that is not masked
            return f"{type(error).__name__}: its text could not be masked"

    @staticmethod
    def identity_of(span: Any) -> Row:
        """What a closing row of a span needs: its ids, parents and owner."""
        return {
            "id": span.id, "span_id": span.span_id, "root_span_id": span.root_span_id,
            "span_parents": span.span_parents, **_object_ids(span),
        }

    def resolved(self, identity: Identity) -> None:
        """Put the real ids where the SDK has memorised placeholders, so that links come out right."""
        state = bt._state
        organisation = identity.organisation
        if organisation is not None and state.org_id == ORG_PLACEHOLDER:
            state.org_id, state.org_name = organisation.id, organisation.name
        for one in self._memorising():
            known = one._lazy_metadata.get().project.id
            real = identity.project_id(project_name(known)) if is_placeholder(known) else None
            if real is not None:
                _memorise(one, real)

    def moved(self) -> None:
        """After a login of the user's, an id that was memorised for a name may be that of another organisation."""
        for one in self._memorising():
            if one._compute_metadata_args.get("project_id") is None:
                _memorise(one, self.gateway.id_of(one._lazy_metadata.get().project.name))

    def _memorising(self) -> list[Any]:
        """The loggers, ours and the user's, that have memorised the id of their project."""
        state = bt._state
        with getattr(state, "_client_lock", contextlib.nullcontext()):
            getattr(state, "_project_metadata_cache", {}).clear()
        every = {id(one): one for one in (*self._loggers.values(), braintrust.current_logger()) if one is not None}
        return [one for one in every.values() if one._lazy_metadata.has_succeeded]

    # The queue

    def drain(self, deadline: Deadline) -> bool:
        """Move what is in the SDK's queue to the journal; False if that is not done by the deadline."""
        return self._drainer.drain(deadline)

    def flush_queue(self) -> None:
        """The SDK's own flush, which the gateway turns into a write to the journal."""
        (self._plain_flush or bt._state.global_bg_logger().flush)()

    def _wrap_flush(self, state: Any) -> None:
        """Outside an invocation a user's ``flush()`` promises that rows have arrived: let it wait for the
        courier too. Inside one the invocation's end sees to that."""
        background = state.global_bg_logger()
        if "flush" in background.__dict__:
            return
        plain = self._plain_flush = background.flush
        after = self._host.flushed

        def flush(*args: Any, **options: Any) -> None:
            plain(*args, **options)
            if threading.current_thread() is not getattr(background, "thread", None):
                with contain("deliver after flush()"):
                    after()

        background.flush = flush

    def after_fork(self) -> None:
        """In a forked child: helper threads of the parent are not there, and locks of theirs are held for ever."""
        self._lock = threading.Lock()
        self._drainer = _Drainer(self)
        with contain("repair the SDK after a fork"):
            self._revive()

    def _revive(self) -> None:
        """Without this a child's ``flush()`` waits for ever for threads that only its parent has. What waits in
        the queue is the parent's to send. The names are the same from 0.0.200 to 0.48.1."""
        bt.HTTP_REQUEST_THREAD_POOL = ThreadPoolExecutor(max_workers=os.cpu_count())
        background: Any = bt._state.global_bg_logger()
        background.flush_lock, background.start_thread_lock = threading.RLock(), threading.RLock()
        background.thread, background.started = threading.Thread(target=background._publisher, daemon=True), False
        queued = background.queue
        background.queue = type(queued)(maxsize=queued.maxsize)
        background.queue.enforce_queue_size_limit(queued._enforce_size_limit)
        # The connections of what passes through are the parent's too.
        self.gateway.after_fork()


class _Drainer:
    """Runs the SDK's flush on a thread of its own, since it has no timeout: whoever waits can stop waiting."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk
        self._requests: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def drain(self, deadline: Deadline) -> bool:
        done = threading.Event()
        if not self._started():
            self._flush(done)  # the interpreter is shutting down, and with it the SDK's own threads
            return True
        self._requests.put(done)
        return done.wait(min(deadline.remaining, threading.TIMEOUT_MAX))

    def _started(self) -> bool:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="trace-guard-drain", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
            return True

    def _run(self) -> None:
        while True:
            waiting = [self._requests.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._requests.get_nowait())
            self._flush(*waiting)

    def _flush(self, *waiting: threading.Event) -> None:
        try:
            self._sdk.flush_queue()
        except Exception as error:  # noqa: BLE001 - attachments that can't be uploaded end up here
            logger.debug("the SDK's flush raised: %s", error)
        finally:
            for done in waiting:
                done.set()


def _masking_function() -> Callable[[Any], Any] | None:
    """What was given to ``set_masking_function``; releases differ in where they keep it."""
    background: Any = bt._state.global_bg_logger()
    kept = [background, *getattr(background, "_export_customizers", ())]
    found = [getattr(one, name, None) for one in kept for name in ("masking_function", "_masking_function")]
    return next((one for one in found if callable(one)), None)


def _memorise(one: Any, project_id: str) -> None:
    """Let a logger have this id for its project."""
    one._lazy_metadata.get().project.id = project_id
    one._lazy_id = type(one._lazy_id)(lambda: project_id, use_mutex=False)


def _object_ids(span: Any) -> Row:
    exporter: Any = bt._get_exporter()  # type: ignore[no-untyped-call]
    fields: Row = exporter(
        object_type=span.parent_object_type, object_id=span.parent_object_id.get()
    ).object_id_fields()
    return fields


class _Login:
    """Stands in for the SDK's ``login``, which we call early and without a network.

    Without a key the SDK can't log in, and rows would never leave its queue: then it is logged in to the
    gateway under a name that is nobody's key. And as it was we who logged in, a login of the user's own, with
    another key, organisation or URL, must not be refused as a second one.
    """

    def __init__(self, state: Any, gateway: Gateway, moved: Callable[[], None]) -> None:
        self._state = state
        self._gateway = gateway
        self._moved = moved
        self._ours = False

    def early(self) -> None:
        """Log in for the sake of rows; not the user's doing."""
        if not self._state.logged_in:
            self()
            self._ours = True

    def __call__(
        self,
        app_url: str | None = None,
        api_key: str | None = None,
        org_name: str | None = None,
        force_login: bool = False,
    ) -> None:
        state = self._state
        asked = app_url is not None or api_key is not None or org_name is not None
        if asked and (self._ours or state.login_token == LOCAL_KEY):
            force_login, self._ours = True, False
        plain = functools.partial(type(state).login, state, app_url=app_url, org_name=org_name)
        self._gateway.wanted_organisation = org_name or os.environ.get("BRAINTRUST_ORG_NAME") or None
        try:
            plain(api_key=api_key, force_login=force_login)
        except ValueError:
            if api_key or state.logged_in:
                raise
            plain(api_key=LOCAL_KEY, force_login=force_login)
        if asked:
            with contain("forget projects of an earlier login"):
                self._moved()
