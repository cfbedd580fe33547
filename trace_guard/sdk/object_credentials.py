"""Objects and calls with credentials of their own: ``init_dataset(api_key=...)``, ``invoke(api_key=...)`` and others.

With the SDK alone the first of them logs in the whole process, and later ones with another key raise. Where the guard
has logged in before, the credentials hold for that object or call alone: its requests and rows carry them, and nothing
changes for others. After a login of the user's own the SDK's rule holds.

The SDK's constructors are replaced, not its functions, which user code may have imported by name.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType
from typing import Any, NamedTuple

import braintrust.logger as bt
from braintrust.util import GLOBAL_PROJECT

from ..contain import contain, contained
from .call_state import CallState
from .gateway import LOCAL_KEY, Gateway
from .host import Owner
from .object_attachments import read_attachments_with
from .replacements import Replacements

__all__ = ["ObjectCredentials"]

_KINDS = {"Dataset": "dataset", "Experiment": "experiment", "ReadonlyExperiment": "experiment", "Logger": "project"}

_of_call: ContextVar[CallState | None] = ContextVar("trace_guard_state_of_call", default=None)


class _Given(NamedTuple):
    """Credentials in the arguments of a call."""

    app_url: str | None
    api_key: str | None
    org_name: str | None


class ObjectCredentials:
    """Replaces the constructors of the SDK's objects.

    Args:
        gateway: sends the rows of an object with its credentials.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._states: dict[_Given, CallState] = {}
        self._lock = threading.Lock()
        self._replacements = Replacements()

    def install(self) -> None:
        """Put the replacements in; a second call does nothing."""
        if self._replacements:
            return
        for name in _KINDS:
            self._replacements.replace(getattr(bt, name), "__init__", self._make)
        invoking = sys.modules["braintrust.functions.invoke"]
        self._replacements.replace(invoking, "login", self._log_in_for_call)
        self._replacements.replace(invoking, "proxy_conn", self._connection_of_call)
        if not hasattr(bt, "_resolve_loader_login_options"):
            # Old releases load prompts and parameters with the global state.
            self._replacements.replace(bt, "login", self._log_in_for_loader)
            self._replacements.replace(bt.BraintrustState, "api_conn", self._connection_of_loader)

    def uninstall(self) -> None:
        """Put the SDK's own constructors back."""
        self._replacements.undo()

    def after_fork(self) -> None:
        """In a forked child: a parent's thread that held the lock does not exist here."""
        self._lock = threading.Lock()

    def _make(self, plain: Callable[..., None]) -> Callable[..., None]:
        def make(made: Any, *args: Any, **options: Any) -> None:
            state = contained("separate the credentials of an object", lambda: self._separate(made, options), None)
            plain(made, *args, **options)
            if state is not None and hasattr(made, "_mutate_record"):
                with contain("read attachments with the credentials of an object"):
                    made._mutate_record = read_attachments_with(state, made._mutate_record)

        return make

    def _separate(self, made: Any, options: dict[str, Any]) -> CallState | None:
        """Give the object a state of its own, and return it, if it has other credentials than the login."""
        lazy, cells = options.get("lazy_metadata"), _variables(options.get("lazy_metadata"))
        given = _given(cells)
        if lazy is None or "state" not in cells or options.get("state") not in (None, bt._state):
            return None
        if isinstance(made, bt.Logger) and not self._gateway.host.in_invocation():
            return None  # the logger of the process, whose login holds for all
        if not self._differs(given):
            return None
        state = self._state_of(given)
        options["state"] = cells["state"].cell_contents = state
        kind, plain = _KINDS[type(made).__name__], lazy.callable
        named = options.get("compute_metadata_args") or {}

        def compute() -> Any:
            metadata = plain() if kind != "project" else _project_of(state, given, named)
            owner = Owner(str(state.login_token), str(state.api_url), str(state.org_id or ""))
            self._gateway.note_object(getattr(metadata, kind).id, owner)
            return metadata

        lazy.callable = compute
        return state

    def _log_in_for_loader(self, plain: Callable[..., None]) -> Callable[..., None]:
        for_call, loaders = self._log_in_for_call(plain), _codes_of_loaders()

        def login(*args: Any, **options: Any) -> None:
            (for_call if sys._getframe(1).f_code in loaders else plain)(*args, **options)

        return login

    def _connection_of_loader(self, plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def api_conn(state: Any) -> Any:
            own = _of_call.get() if state is bt._state else None
            if own is None:
                return plain(state)
            _of_call.set(None)
            return own.api_conn()  # type: ignore[no-untyped-call]

        return api_conn

    def _log_in_for_call(self, plain: Callable[..., None]) -> Callable[..., None]:
        def login(app_url: Any = None, api_key: Any = None, org_name: Any = None, force_login: bool = False) -> None:
            given = _Given(app_url, api_key, org_name)
            if not force_login and contained("compare credentials", lambda: self._differs(given), False):
                state = self._state_of(given)
                state.login(app_url=app_url, api_key=api_key, org_name=org_name)
                _of_call.set(state)
            else:
                plain(app_url=app_url, api_key=api_key, org_name=org_name, force_login=force_login)

        return login

    def _connection_of_call(self, plain: Callable[[], Any]) -> Callable[[], Any]:
        def proxy_conn() -> Any:
            state = _of_call.get()
            _of_call.set(None)
            return plain() if state is None else state.proxy_conn()  # type: ignore[no-untyped-call]

        return proxy_conn

    def _differs(self, given: _Given) -> bool:
        """True if credentials are given that are not those of the login, which the guard has made."""
        state, login = bt._state, bt._state.__dict__.get("login")
        if login is None or not login.is_ours or state.login_token in (None, LOCAL_KEY):
            return False
        organisation = state.org_name or login.wanted_organisation
        return any(wanted is not None and wanted != known for wanted, known in (
            (given.api_key and given.api_key.strip(), state.login_token),
            (given.app_url and given.app_url.rstrip("/"), str(state.app_url).rstrip("/")),
            (given.org_name, organisation),
        ))

    def _state_of(self, given: _Given) -> CallState:
        with self._lock:
            if given not in self._states:
                self._states[given] = CallState()  # type: ignore[no-untyped-call]
            return self._states[given]


def _codes_of_loaders() -> set[CodeType]:
    """The functions of old releases that log in to load a prompt or parameters."""
    codes = {bt.load_parameters.__code__} if hasattr(bt, "load_parameters") else set()
    return codes.union(code for code in bt.load_prompt.__code__.co_consts if isinstance(code, CodeType))


def _project_of(state: CallState, given: _Given, named: dict[str, Any]) -> Any:
    """What the SDK looks up for a logger. Old releases look it up with the global state only."""
    state.login(app_url=given.app_url, api_key=given.api_key, org_name=given.org_name)
    plain = inspect.unwrap(bt._compute_logger_metadata)
    if "state" in inspect.signature(plain).parameters:
        return plain(**named, state=state)
    asked = {"project_name": named.get("project_name") or GLOBAL_PROJECT, "org_id": state.org_id}
    if named.get("project_id"):
        found = {"id": named["project_id"], "name": named.get("project_name") or named["project_id"]}
    else:
        found = state.app_conn().post_json("api/project/register", asked)["project"]  # type: ignore[no-untyped-call]
    project = bt.ObjectMetadata(id=found["id"], name=found["name"], full_info=found)
    return bt.OrgProjectMetadata(org_id=str(state.org_id), project=project)


def _variables(lazy: Any) -> dict[str, Any]:
    """The cells of the variables that the function of a lazy value uses, by name."""
    function = getattr(lazy, "callable", None)
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return dict(zip(names, getattr(function, "__closure__", None) or (), strict=True))


def _given(cells: dict[str, Any]) -> _Given:
    return _Given(*(
        cells[name].cell_contents if name in cells and isinstance(cells[name].cell_contents, str) else None
        for name in _Given._fields
    ))
