"""The SDK's login, which the guard makes early and without the network."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import braintrust.logger as bt

from ..backends.project_ids import ORG_NAME_PLACEHOLDER
from ..contain import contain, is_shortage
from ..settings import Settings
from .gateway import LOCAL_KEY, Gateway
from .making_rows import is_making_rows, making_rows

__all__ = ["Login"]


class Login:
    """Stands in for the ``login`` method of the SDK's global state.

    Without a key the SDK can't log in, and rows would never leave its queue: it is then logged in to the gateway with
    a placeholder for the key. The user's first own login must not be refused as a second one.

    Args:
        settings: the guard's settings. Their key is used: a keyword beats the environment.
        login_changed: called after a login of the user's.

    Attributes:
        is_ours: True while the login in force was made by the guard.
    """

    def __init__(
        self, state: Any, gateway: Gateway, settings: Settings | None, login_changed: Callable[[], None]
    ) -> None:
        self._state = state
        self._gateway = gateway
        self._settings = settings
        self._login_changed = login_changed
        # The SDK checks twice whether it is logged in. A login of another thread in between makes it fail, or wait for
        # ever. Reentrant, as the second check calls this method again.
        self._lock = threading.RLock()
        self.is_ours = self._is_verified = False

    @property
    def wanted_organisation(self) -> str | None:
        """The organisation that the guard logs in to, if its settings name one."""
        return self._settings.org_name if self._settings is not None else None

    @property
    def may_replace(self) -> bool:
        """True if the login in force gives way to the guard's key: it is the guard's, or it has the environment's key
        and the guard was given another."""
        return self.is_ours or (self._keyword is not None and self._state.login_token == _key_of_environment())

    @property
    def _keyword(self) -> str | None:
        """The guard's key if it is not the environment's."""
        settings = self._settings
        if settings is None or settings.backend_name != "braintrust" or settings.api_key == _key_of_environment():
            return None
        return settings.api_key

    def early(self) -> None:
        """Log in so that rows can leave the queue."""
        state, settings = self._state, self._settings
        with self._lock, making_rows():
            replaces = state.logged_in and not self.is_ours and self.may_replace
            if state.logged_in and not replaces:
                return
            if settings is not None and settings.backend_name == "braintrust" and settings.api_key:
                self(settings.app_url, settings.api_key, settings.org_name, replaces)
            else:
                self()
            self.is_ours = True

    def with_late_key(self) -> bool:
        """Log in with a key that was put in the environment after the guard was made. False if there is none."""
        key, settings = _key_of_environment(), self._settings
        if key is None or settings is None or settings.backend not in ("auto", "braintrust"):
            return False
        with self._lock, making_rows():
            self(api_key=key, force_login=True)
            self.is_ours = True
        return True

    def verify(self) -> None:
        """Have the server say once whether the guard's login is right, as a login of the user's does.

        Raises:
            ValueError: it is not.
        """
        with self._lock:
            self._log_in(None, None, None, False, True)

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def __call__(
        self,
        app_url: str | None = None,
        api_key: str | None = None,
        org_name: str | None = None,
        force_login: bool = False,
    ) -> None:
        is_users = not is_making_rows() and _is_called_by_user(sys._getframe(1))
        with self._lock:
            self._log_in(app_url, api_key, org_name, force_login, is_users)

    def _log_in(
        self, app_url: str | None, api_key: str | None, org_name: str | None, force_login: bool, is_users: bool
    ) -> None:
        state = self._state
        asked = app_url is not None or api_key is not None or org_name is not None
        if asked and (self.is_ours or state.login_token == LOCAL_KEY):
            force_login = True
        was_logged_in = state.logged_in
        anew = force_login or not was_logged_in
        if anew and api_key is None:
            api_key = self._keyword  # where the SDK would take the environment's
        verify = (is_users or asked) and not is_making_rows() and self._gateway.host.follows_logins()
        if verify and not anew:
            # The guard has made this login, without asking the server.
            verify = force_login = self.is_ours and not self._is_verified and state.login_token != LOCAL_KEY
            if verify:
                app_url, api_key, org_name = state.app_url, state.login_token, self.wanted_organisation
        plain = functools.partial(type(state).login, state, app_url=app_url, org_name=org_name)
        with self._gateway.logging_in(org_name or os.environ.get("BRAINTRUST_ORG_NAME") or None, verify=verify):
            try:
                plain(api_key=api_key, force_login=force_login)
            except ValueError:
                if api_key or was_logged_in:
                    raise
                plain(api_key=LOCAL_KEY, force_login=force_login)
            except RuntimeError as error:
                self._end_pending(error)
                raise
        self._gateway.note_login(state.login_token)
        if state.org_name == ORG_NAME_PLACEHOLDER:
            state.org_name = None  # as before a login of the SDK alone; links would show it
        self.is_ours = self.is_ours and not anew
        self._is_verified = verify or (self._is_verified and not anew)
        if asked:
            with contain("forget projects of an earlier login"):
                self._login_changed()

    def _end_pending(self, error: RuntimeError) -> None:
        """The SDK could start no thread for a login. Without this its next one waits for that for ever."""
        if is_shortage(error):
            for pending in tuple(getattr(self._state, "_login_requests", ())):
                if not pending.done():
                    pending.set_exception(error)


def _is_called_by_user(frame: Any) -> bool:
    """True if user code has called the SDK's ``login()``, which is the caller; other functions of the SDK call it
    too."""
    above = frame.f_back
    while above is not None and above.f_globals.get("__package__") == __package__:
        above = above.f_back  # a replacement of ours
    return frame.f_code is inspect.unwrap(bt.login).__code__ and not str(
        above and above.f_globals.get("__name__")
    ).startswith("braintrust.")


def _key_of_environment() -> str | None:
    return os.environ.get("BRAINTRUST_API_KEY", "").strip() or None
