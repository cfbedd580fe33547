"""The Braintrust SDK of this process with the gateway in place. This room alone touches the inside of the SDK.

Tested from 0.4 on. Missing features of a release are detected, never assumed from its version.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import braintrust
import braintrust.logger as bt
from requests.adapters import HTTPAdapter

from ..backends.project_ids import ORG_PLACEHOLDER, Organisation
from ..contain import contain
from ..deadline import Deadline
from ..rows import Row
from . import elsewhere, masking, parents, spans
from .gateway import LOCAL_KEY, Gateway
from .host import GatewayHost
from .intake import Intake
from .loggers import Loggers
from .login import Login
from .object_credentials import ObjectCredentials
from .own_spans import OwnSpans
from .replacements import Replacements
from .retries import TransportRetries
from .server_ids import ServerIds
from .unsent import Unsent

__all__ = ["Sdk"]


class Sdk:
    """One instance per process, which guards share.

    Attributes:
        loggers: opens the guard's own spans.
    """

    no_span = spans.no_span

    def __init__(self, host: GatewayHost) -> None:
        bt._state.global_bg_logger()  # its exit handler must run after ours, so it is registered first
        self.gateway = Gateway(host)
        self.loggers = Loggers(self.gateway)
        self._host = host
        self._own_spans = OwnSpans(host)
        self._server_ids = ServerIds(self.gateway)
        self._object_credentials = ObjectCredentials(self.gateway)
        self._unsent = Unsent(self.loggers.users_logger)
        self._adapters = Replacements()
        self._retries = TransportRetries(self.gateway)
        self._intake = Intake(
            self.gateway, lambda: self.installed, self._install_again, host.flushed, lambda: host.exit_by
        )
        self._lock = threading.RLock()
        self._is_installing = False

    def install(self) -> None:
        """Put the gateway in, and log in through it, which needs no network.

        Repeated when other code has set another adapter, to which requests that pass through then go, or has reset the
        SDK's global state, as tests do.
        """
        if self.installed and not self._is_installing:
            self.look_for_key()
            return
        with self._lock:
            if self.installed:
                return
            # Other threads wait until the SDK is logged in and its queue is hooked.
            self._is_installing = True
            try:
                self._install(bt._http_adapter)
            finally:
                self._is_installing = False

    def _install_again(self) -> None:
        """User code has set another adapter in a way that was not noticed: put the gateway in front of it."""
        if not self._is_installing:
            self.install()

    def _install(self, current: Any) -> None:
        if isinstance(current, HTTPAdapter) and current is not self.gateway:
            self.gateway.inner = current
        if not self._adapters:
            for module in (bt, braintrust):
                self._adapters.replace(module, "set_http_adapter", self._set_adapter)
        self._retries.install()
        bt.set_http_adapter(self.gateway)
        state = bt._state
        login = state.__dict__.get("login")
        if login is None:
            login = state.__dict__["login"] = Login(
                state, self.gateway, self._host.settings(), self.loggers.login_changed
            )
        if state.logged_in and not (state.login_token in (None, LOCAL_KEY) or login.may_replace):
            self._adopt_login(state)
        # Some Pythons 3.12 hang at exit if the SDK starts the thread of its first look-up there.
        login.early()
        self._intake.hook(state)
        self._own_spans.install()
        self._object_credentials.install()
        self._unsent.install()
        self._server_ids.install()

    def _set_adapter(self, plain: Callable[[Any], None]) -> Callable[[Any], None]:
        """An adapter that user code sets from now on stands behind the gateway, which has real ids for placeholders."""
        def set_http_adapter(adapter: Any) -> None:
            if self.installed and adapter is not self.gateway:
                self.gateway.inner = adapter
                adapter = self.gateway  # new connections, which go to the user's adapter
            plain(adapter)

        return set_http_adapter

    def look_for_key(self) -> None:
        """If there was no key so far, log in with one that has come since: in the environment, or with a logger."""
        login = bt._state.__dict__.get("login")
        if bt._state.login_token == LOCAL_KEY and login is not None:
            with contain("look for a key"):
                if not login.with_late_key():
                    self.loggers.resolve_users_logger()

    def _adopt_login(self, state: Any) -> None:
        """The user logged in before the gateway was installed: rows go to that login's destination."""
        self.gateway.note_login(state.login_token)
        self._host.logged_in(state.login_token, state.app_url, os.environ.get("BRAINTRUST_ORG_NAME") or None)
        if state.org_id and state.org_name and state.org_id != ORG_PLACEHOLDER:
            self._host.learn_organisation(Organisation(state.org_id, state.org_name, state.api_url))

    @property
    def installed(self) -> bool:
        return bt._http_adapter is self.gateway and "login" in bt._state.__dict__

    def uninstall(self) -> None:
        """Remove the gateway, and restore the adapter that it wrapped."""
        state = bt._state
        with self._lock:
            self._adapters.undo()
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
            self._intake.unhook(state)
            self._server_ids.uninstall()
            self._unsent.uninstall()
            self._object_credentials.uninstall()
            self._own_spans.uninstall()
            self._retries.uninstall()

    # Functions of this room, for rooms that must not import the SDK before it is needed

    @staticmethod
    def adoptable(
        parent: str | Mapping[str, str] | None,
    ) -> tuple[str | Mapping[str, str] | None, dict[str, str]]:
        """See :func:`.parents.adoptable`."""
        return parents.adoptable(parent)

    @staticmethod
    def error_text(error: BaseException) -> str:
        """See :func:`.masking.error_text`."""
        return masking.error_text(error)

    @staticmethod
    def user_traceback(trace: TracebackType | None) -> TracebackType | None:
        """See :func:`.masking.user_traceback`."""
        return masking.user_traceback(trace)

    @staticmethod
    def masked(text: str) -> str:
        """See :func:`.masking.masked`."""
        return masking.masked(text)

    @staticmethod
    def identity_of(span: Any) -> Row:
        """See :func:`.spans.identity_of`."""
        return spans.identity_of(span)

    @staticmethod
    def is_elsewhere(span: Any) -> bool:
        """See :func:`.elsewhere.is_elsewhere`."""
        return elsewhere.is_elsewhere(span)

    @staticmethod
    def is_open(span: Any) -> bool:
        """See :func:`.elsewhere.is_open`."""
        return elsewhere.is_open(span)

    @staticmethod
    def close_elsewhere(spans: Sequence[Any], end: float, about: Mapping[str, Any], deadline: Deadline) -> None:
        """See :func:`.elsewhere.close_elsewhere`."""
        elsewhere.close_elsewhere(spans, end, about, deadline)

    @staticmethod
    def is_in_span() -> bool:
        """See :func:`.spans.is_in_span`."""
        return spans.is_in_span()

    @staticmethod
    def start_row(span: Any, name: str, started: float, metadata: Mapping[str, Any]) -> Row:
        """See :func:`.spans.start_row`."""
        return spans.start_row(span, name, started, metadata)

    @staticmethod
    def ignore_exceptions(is_control_flow: Callable[[BaseException], bool]) -> None:
        """See :func:`.spans.ignore_exceptions`."""
        spans.ignore_exceptions(is_control_flow)

    @staticmethod
    def leave_span(span: Any, error: BaseException | None, ended: float | None = None) -> None:
        """See :func:`.spans.leave_span`."""
        spans.leave_span(span, error, ended)

    # Rows

    def plain_row(self, identity: Row, event: Mapping[str, Any]) -> Row | None:
        """:func:`.spans.merge_row`; None also while rows of the SDK's queue would come later than they should."""
        return spans.merge_row(identity, event) if self.is_quiet else None

    def rename(self, span: Any, identity: Row, name: str, metadata: Mapping[str, Any] | None) -> Row | None:
        """Give a span another name, and more metadata. Returns the row that says so, for the caller to write; None if
        the SDK has logged it, for the reasons of :meth:`plain_row`."""
        row = self.plain_row(identity, {"span_attributes": {"name": name}, "metadata": metadata})
        if row is None:
            span.set_attributes(name=name)
            if metadata:
                span.log(metadata=metadata)
        else:
            span._name = name
        return row

    def drain(self, deadline: Deadline) -> bool:
        """Move the rows in the SDK's queue to the journal. Returns False if the deadline passes first."""
        return self._intake.drain(deadline)

    @property
    def is_quiet(self) -> bool:
        """True if every row put in the SDK's queue is in the journal."""
        return self._intake.is_quiet

    @property
    def pending(self) -> int:
        """How many rows are in the SDK's memory only."""
        return self._intake.pending

    def lost_of(self, root: str | None) -> int:
        """How many rows of an invocation the SDK could not make, so that their logged values are lost; with None, rows
        whose invocation is not known."""
        return self._intake.lost_of(root)

    def forget_losses(self, root: str) -> None:
        """The losses of an invocation are reported."""
        self._intake.forget_losses(root)

    @property
    def has_been_used(self) -> bool:
        """True once the SDK's queue has had a row in it."""
        return self._intake.has_been_used

    def after_fork(self) -> None:
        """In a forked child: make it usable without the parent's threads and connections."""
        self._lock = threading.RLock()
        self._is_installing = False
        _forget_requests(bt._state)
        login = bt._state.__dict__.get("login")
        if login is not None:
            login.after_fork()
        self.loggers.after_fork()
        self._object_credentials.after_fork()
        self._intake.after_fork()
        self.gateway.after_fork()


def _forget_requests(state: Any) -> None:
    """In a forked child: the SDK's look-ups that run in the parent will have no result here. Recent releases only."""
    if hasattr(state, "_client_lock"):
        state._client_lock = threading.RLock()
    requests = getattr(state, "_project_metadata_cache", {})
    for key, entry in tuple(requests.items()):
        if not entry.future.done():
            del requests[key]
