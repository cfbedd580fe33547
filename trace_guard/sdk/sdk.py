"""The one module that touches the inside of the Braintrust SDK.

Shown to work from 0.4 on; what a release does not have is found out, never assumed from its version.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import braintrust
import braintrust.logger as bt
from braintrust.span_identifier_v4 import SpanComponentsV4
from braintrust.span_types import SpanTypeAttribute
from requests.adapters import HTTPAdapter

from ..backends.project_ids import ORG_PLACEHOLDER, Identity, Organisation, is_placeholder, project_name
from ..contain import contain, contained, logger, warn_once
from ..deadline import Deadline
from ..rows import Row
from ..settings import Settings
from .gateway import LOCAL_KEY, Gateway, GatewayHost

__all__ = ["Sdk"]

# The part of the SDK's queue that may be full before whoever logs waits for it, at most so many seconds; if it gets no
# shorter in that time, not again for so many.
_SHARE_OF_QUEUE = 10
_QUEUE_SECONDS = 2.0
_QUEUE_PAUSE_SECONDS = 30.0
_MARK = "_made_by_trace_guard"
_PARENT_KEY = "braintrust.parent="


class Sdk:
    """The SDK of this process with the gateway in place. There is one; guards share it.

    Attributes:
        no_span: the span that does nothing.
    """

    no_span: Any = bt.NOOP_SPAN

    def __init__(self, host: GatewayHost) -> None:
        bt._state.global_bg_logger()  # its exit handler is to come after ours, and so to be registered before it
        self.gateway = Gateway(host)
        self._host = host
        self._loggers: dict[tuple[str | None, str | None], Any] = {}
        self._lock = threading.Lock()
        self._drainer = _Drainer(self)
        options = getattr(bt, "SpanInternalOptions", None)
        self._internal = frozenset(getattr(options, "__annotations__", ()))
        self._plain_flush: Callable[..., None] | None = None
        self._patient_until = 0.0
        # How many rows its queue was given, and of how many of them it is known that they are in the journal.
        self._said = self._written = 0
        self._counts = threading.Lock()
        # The logger of the user's own that roots go to, in a tuple once that is decided.
        self._followed: tuple[Any] | None = None

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
            login = state.__dict__.get("login")
            if login is None:
                runtime = self._host.latest()
                settings = runtime.settings if runtime is not None else None
                login = state.__dict__["login"] = _Login(state, self.gateway, settings, self.moved)
            if state.logged_in and not (state.login_token in (None, LOCAL_KEY) or login.may_replace):
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
            login = state.__dict__.pop("login", None)
            if state.login_token == LOCAL_KEY or (login is not None and login.is_ours):
                state.logged_in = False
            background = state.global_bg_logger()
            for name in ("flush", "log", "_submit_logs_request"):
                background.__dict__.pop(name, None)
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
        ids: Mapping[str, str] | None = None,
    ) -> Any:
        """Open the root span of an invocation: below ``parent``, else below the span that is current, else in
        the user's own logger if there was one at the process's first root, else in ours for that project.

        Args:
            ids: those of its row and span, and of its trace if it is nobody's child. A release of the SDK that
                knows no ids for a child makes it nobody's.

        Raises:
            Exception: whatever the SDK raises.
        """
        if self._followed is None:
            # Once for all: one that a handler makes for its customer's data is not to have the next customer's.
            self._followed = (self._users_logger(),)
        options: dict[str, Any] = {"name": name, "start_time": started}
        if "skip_initial_span_write" in self._internal:
            options["internal"] = {"skip_initial_span_write": True}
        if parent is not None and ids is not None and "span_id" in self._internal:
            options.update(id=ids["id"], internal={**options.get("internal", {}), "span_id": ids["span_id"]})
            ids = None
        if parent is not None and ids is None:
            return braintrust.start_span(
                parent=parent if isinstance(parent, str) else dict(parent),  # type: ignore[arg-type,unused-ignore]
                type=SpanTypeAttribute.TASK,
                **options,
            )
        if self.is_in_span and ids is None:
            return braintrust.current_span().start_span(**options)
        chosen = self._followed[0] or self._logger(project, project_id)
        return chosen.start_span(**options, **(ids or {}))

    def start_step(self, name: str, root: Any, event: Mapping[str, Any]) -> Any:
        """A span of type task below the one that is current, else below ``root``, else wherever the SDK puts it.

        Raises:
            Exception: whatever the SDK raises.
        """
        options: dict[str, Any] = {"name": name, "type": SpanTypeAttribute.TASK, **event}
        if self.is_in_span:
            return braintrust.current_span().start_span(**options)
        return braintrust.start_span(**options) if root is None else root.start_span(**options)

    def prepare(self, project: str | None, project_id: str | None) -> bool:
        """Do early what the SDK would do with the first span: its look-up of the project takes a thread, which
        some moments, such as the end of the interpreter, do not have. False if the user has a logger, whose
        project it is then."""
        theirs = self._followed[0] if self._followed is not None else self._users_logger()
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
                    # With both there is nothing that the SDK would look up, and load a client for.
                    found = braintrust.init_logger(
                        project=project or project_id, project_id=project_id or self.gateway.id_of(str(project)),
                        set_current=before is None,
                    )
                    # So that it is told from a user's own, also by a guard that comes after this one.
                    found.__dict__[_MARK] = "by id" if project_id else "by name"
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

    def plain_row(self, identity: Row, event: Mapping[str, Any]) -> Row | None:
        """The row that it comes to if this is logged on the span of this identity, for who writes it to the journal at
        once: two of the SDK's threads and a request to the gateway cost several times as much. None if the SDK has to
        make it: for a masking function or a customizer, for values that are not plain, or as rows of its own come
        before.

        Args:
            event: input and output are plain copies; see :class:`trace_guard.payload.Payload`.
        """
        if not self.is_quiet or "tags" in event:
            return None
        if _masking_function() is not None or _customizers():
            return None
        if "project_id" not in identity or not _is_plain(event.get("metadata")):
            return None  # of experiments the SDK keeps what scorers will ask for
        ids = {name: value for name, value in identity.items() if name != "metrics"}
        return {**ids, **{name: value for name, value in event.items() if value is not None}, "_is_merge": True}

    @staticmethod
    def adoptable(
        parent: str | Mapping[str, str] | None,
    ) -> tuple[str | Mapping[str, str] | None, dict[str, str]]:
        """The parent if it is in Braintrust, and the ids of one that is not, as metadata. A text that no span was
        exported as is warned of once, and nobody's parent.

        A foreign ``traceparent`` without ``baggage: braintrust.parent`` names a span that Braintrust has never
        seen; a root below it would have a dead parent.
        """
        if parent is None or isinstance(parent, str):
            return (parent if parent and parent.strip() and _is_exported(parent) else None), {}
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

    @property
    def is_in_span(self) -> bool:
        """True if a span is current."""
        return braintrust.current_span() is not self.no_span

    @staticmethod
    def overlook(is_no_error: Callable[[BaseException], bool]) -> None:
        """Have spans end without an error when an exception passes through them that is control flow only. Once for a
        process; other exceptions are logged as ever."""
        plain = bt.SpanImpl.__exit__
        if hasattr(plain, _MARK):
            return

        @functools.wraps(plain)
        def leave(span: Any, kind: Any, error: Any, trace: Any) -> Any:
            if error is not None and contained("tell an error from control flow", lambda: is_no_error(error), False):
                kind = error = trace = None
            return plain(span, kind, error, trace)

        setattr(leave, _MARK, True)
        setattr(bt.SpanImpl, "__exit__", leave)  # noqa: B010 - its type is the SDK's to say

    @classmethod
    def error_text(cls, error: BaseException) -> str:
        """An exception as the SDK writes it, with its traceback, masked."""
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls.masked(text, f"{type(error).__name__}: its text could not be masked")

    @staticmethod
    def masked(text: str, otherwise: str = "an error whose text could not be masked") -> str:
        """The text of an error through the user's masking function, which the SDK itself does not apply to
        errors; ``otherwise`` if that function raises."""
        mask = _masking_function()
        if mask is None:
            return text
        try:
            return str(mask(text))
        except Exception:  # noqa: BLE001 - as the SDK does: rather nothing than something that is not masked
            return otherwise

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
            if one.__dict__.get(_MARK) == "by name" or one._compute_metadata_args.get("project_id") is None:
                _memorise(one, self.gateway.id_of(one._lazy_metadata.get().project.name))

    def _memorising(self) -> list[Any]:
        """The loggers, ours and the user's, that have memorised the id of their project."""
        state = bt._state
        with getattr(state, "_client_lock", contextlib.nullcontext()):
            getattr(state, "_project_metadata_cache", {}).clear()
        known = (*self._loggers.values(), *(self._followed or ()), braintrust.current_logger())
        every = {id(one): one for one in known if one is not None}
        return [one for one in every.values() if one._lazy_metadata.has_succeeded]

    # The queue

    def drain(self, deadline: Deadline) -> bool:
        """Move what is in the SDK's queue to the journal; False if that is not done by the deadline."""
        return self._drainer.drain(deadline)

    @property
    def is_quiet(self) -> bool:
        """True if all that its queue was ever given is in the journal. Not known of a queue whose rows are not counted:
        one that somebody has put in its place since."""
        return self._written == self._said and "log" in bt._state.global_bg_logger().__dict__

    @property
    def has_spoken(self) -> bool:
        """True once its queue has had something in it."""
        return bool(getattr(bt._state.global_bg_logger(), "started", True))

    def flush_queue(self) -> None:
        """The SDK's own flush, which the gateway turns into a write to the journal."""
        said = self._said
        (self._plain_flush or bt._state.global_bg_logger().flush)()
        with self._counts:
            self._written = max(self._written, said)

    def _wrap_flush(self, state: Any) -> None:
        """Outside an invocation a user's ``flush()`` promises that rows have arrived: let it wait for the
        courier too. Inside one the invocation's end sees to that."""
        background = state.global_bg_logger()
        if "flush" in background.__dict__:
            return
        self._count_rows(background)
        self._shorten_way(background)
        plain = self._plain_flush = background.flush
        after = self._host.flushed

        def flush(*args: Any, **options: Any) -> None:
            plain(*args, **options)
            if threading.current_thread() is not getattr(background, "thread", None):
                with contain("deliver after flush()"):
                    after()

        background.flush = flush

    def _shorten_way(self, background: Any) -> None:
        """Give rows to the gateway as they are: to make a request of them, which it only takes apart again, costs
        more than all else that is done with the rows of a short invocation."""
        plain = getattr(background, "_submit_logs_request", None)
        compose = getattr(bt, "construct_logs3_data", None)
        if plain is None or compose is None:
            return

        def submit(items: Any, *options: Any, **named: Any) -> None:
            if self.installed and not getattr(background, "all_publish_payloads_dir", None):
                with contain("take rows from the SDK"):
                    self.gateway.take_rows(compose(items).encode())
                    return
            plain(items, *options, **named)

        background._submit_logs_request = submit

    def _count_rows(self, background: Any) -> None:
        plain = background.log

        def log(*rows: Any) -> None:
            plain(*rows)
            with self._counts:
                self._said += 1
            with contain("keep the SDK's queue short"):
                self._keep_short(background)

        background.log = log

    def _keep_short(self, background: Any) -> None:
        """Its queue drops the oldest rows when it is full, in silence, and what ends spans faster than its thread sends
        them, such as a long job, fills it: so whoever goes on like that waits for a moment."""
        waiting = background.queue
        size = waiting.size if hasattr(waiting, "size") else waiting.qsize
        if not 0 < waiting.maxsize < size() * _SHARE_OF_QUEUE or time.monotonic() < self._patient_until:
            return
        if threading.current_thread() in (self._drainer.thread, getattr(background, "thread", None)):
            return  # what is called to send rows, such as a masking function, logs some itself
        if not self.drain(Deadline.after(_QUEUE_SECONDS)):
            self._patient_until = time.monotonic() + _QUEUE_PAUSE_SECONDS

    def after_fork(self) -> None:
        """In a forked child: helper threads of the parent are not there, and locks of theirs are held for ever."""
        self._lock = threading.Lock()
        self._counts = threading.Lock()
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
        self._written = self._said
        # The connections of what passes through are the parent's too.
        self.gateway.after_fork()


class _Drainer:
    """Runs the SDK's flush on a thread of its own, since it has no timeout: whoever waits can stop waiting."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk
        self._requests: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
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
            if self.thread is None or not self.thread.is_alive():
                thread = threading.Thread(target=self._run, name="trace-guard-drain", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self.thread = thread
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


@functools.lru_cache(maxsize=128)  # many tasks have one parent
def _is_exported(text: str) -> bool:
    """True if the SDK can read it as a span, or as something that spans can be in."""
    try:
        found = SpanComponentsV4.from_str(text)
        if found.object_id or found.compute_object_metadata_args:
            return True
    except Exception as error:  # noqa: BLE001 - what it raises depends on what is in the text
        logger.debug("%.80r is no exported span: %s", text, error)
    warn_once("parent", "the parent %.80r is not what a span's export() gives: the work below it begins a trace "
              "of its own", text)
    return False


def _masking_function() -> Callable[[Any], Any] | None:
    """What was given to ``set_masking_function``; releases differ in where they keep it."""
    background: Any = bt._state.global_bg_logger()
    kept = [background, *getattr(background, "_export_customizers", ())]
    found = [getattr(one, name, None) for one in kept for name in ("masking_function", "_masking_function")]
    return next((one for one in found if callable(one)), None)


def _customizers() -> Any:
    """What changes spans when they are exported; a release without such a thing has none."""
    return getattr(bt, "_get_span_customizers", lambda: None)() or getattr(
        bt._state.global_bg_logger(), "_export_customizers", None
    )


def _is_plain(value: Any) -> bool:
    """True for what JSON can say, so that the SDK would leave it as it is."""
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # noqa: BLE001 - a user's object may do anything when looked at
        return False
    return True


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

    Args:
        settings: the guard's, whose key the SDK is to have: a keyword beats the environment.

    Attributes:
        is_ours: the login that is in force was not the user's doing.
    """

    def __init__(self, state: Any, gateway: Gateway, settings: Settings | None, moved: Callable[[], None]) -> None:
        self._state = state
        self._gateway = gateway
        self._settings = settings
        self._moved = moved
        self.is_ours = False

    @property
    def may_replace(self) -> bool:
        """True if the login that is in force gives way to the guard's key: it is ours, or has the environment's key,
        and the guard was given another."""
        return self.is_ours or (self._keyword is not None and self._state.login_token == _key_of_environment())

    @property
    def _keyword(self) -> str | None:
        """The guard's key, if that is not the environment's."""
        settings = self._settings
        if settings is None or settings.backend_name != "braintrust" or settings.api_key == _key_of_environment():
            return None
        return settings.api_key

    def early(self) -> None:
        """Log in for the sake of rows; not the user's doing."""
        state, settings = self._state, self._settings
        replaces = state.logged_in and not self.is_ours and self.may_replace
        if state.logged_in and not replaces:
            return
        if settings is not None and settings.backend_name == "braintrust" and settings.api_key:
            self(settings.app_url, settings.api_key, settings.org_name, replaces)
        else:
            self()
        self.is_ours = True

    def __call__(
        self,
        app_url: str | None = None,
        api_key: str | None = None,
        org_name: str | None = None,
        force_login: bool = False,
    ) -> None:
        state = self._state
        asked = app_url is not None or api_key is not None or org_name is not None
        if asked and (self.is_ours or state.login_token == LOCAL_KEY):
            force_login = True
        anew = force_login or not state.logged_in
        if anew and api_key is None:
            api_key = self._keyword  # where the SDK would take the environment's
        plain = functools.partial(type(state).login, state, app_url=app_url, org_name=org_name)
        self._gateway.wanted_organisation = org_name or os.environ.get("BRAINTRUST_ORG_NAME") or None
        try:
            plain(api_key=api_key, force_login=force_login)
        except ValueError:
            if api_key or state.logged_in:
                raise
            plain(api_key=LOCAL_KEY, force_login=force_login)
        self.is_ours = self.is_ours and not anew
        if asked:
            with contain("forget projects of an earlier login"):
                self._moved()


def _key_of_environment() -> str | None:
    return os.environ.get("BRAINTRUST_API_KEY", "").strip() or None
