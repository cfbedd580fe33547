"""The runtime's end of the socket to the external extension."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from trace_guard.contain import contain, logger, warn_once

if TYPE_CHECKING:
    import socket

    from trace_guard import Guard
    from trace_guard.runtime.pipeline import Pipeline
    from trace_guard.settings import Settings

__all__ = ["Link", "connect"]

_CONNECT_SECONDS = 0.1
_open: list[Link] = []
_hooked = False


def connect(guard: Guard, *, holds_freeze: bool = False) -> Link | None:
    """The link to the extension of this environment; None without an extension, which takes microseconds to find out.

    The link carries the API key, so it is only made on Lambda, to a process of the same user.

    Args:
        guard: whose journal is shared with the extension. A pipeline with a backend in memory is not shared.
        holds_freeze: True if the extension must delay the freeze after each event until :meth:`Link.end`.
    """
    pipeline = guard.pipeline
    if not pipeline.is_shared or pipeline.settings.backend_name == "memory" or not _is_lambda():
        return None
    from .program import in_own_directory, socket_path

    path = socket_path(os.environ)
    if not os.path.lexists(path):
        return None
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_SECONDS)
    try:
        in_own_directory(path, lambda checked: _connect(connection, checked, path))
    except PermissionError as error:
        connection.close()
        warn_once(
            "untrusted extension socket",
            "trace-guard does not connect to its extension at %s, which another user may have put there (%s); rows "
            "are delivered without it",
            path, error,
        )
        return None
    except OSError as error:
        connection.close()
        logger.debug("no extension listens at %s: %s", path, error)  # another environment left it on the same disk
        return None
    connection.setblocking(False)
    link = Link(guard, connection, holds_freeze=holds_freeze)
    return link if link.is_open else None


def _is_lambda() -> bool:
    return bool(os.environ.get("AWS_LAMBDA_RUNTIME_API") and os.environ.get("AWS_LAMBDA_FUNCTION_NAME"))


def _connect(connection: socket.socket, path: str, name: str) -> None:
    """Connect to a socket of the same user.

    Args:
        path: leads to the socket.
        name: the path for error messages.

    Raises:
        PermissionError: another user owns the socket, can write to it, or listens at it.
    """
    from .program import check_owner, user_at_other_end

    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        raise PermissionError(f"{name} is not a socket")
    check_owner(status, name)
    connection.connect(path)
    user = user_at_other_end(connection)
    if user != os.geteuid():
        raise PermissionError(f"user {user} listens there, not user {os.geteuid()}")


class Link:
    """Sends a message to the extension about each invocation.

    It never blocks and never raises: a message that the socket does not accept at once closes the link. The extension
    then checks whether the runtime has died, and finds that the journal is still locked.

    A forked child closes its copy of the socket. Otherwise the extension would not notice the parent's death.

    Attributes:
        pipeline: the one whose journal is shared: the guard's, which a login of the program's may change.
    """

    def __init__(self, guard: Guard, connection: socket.socket, *, holds_freeze: bool) -> None:
        self._guard = guard
        self.pipeline: Pipeline = guard.pipeline
        self._connection: socket.socket | None = connection
        self._holds_freeze = holds_freeze
        self._sent_settings: Settings | None = None
        _hook()
        _open.append(self)
        with contain("greet the extension"):
            self._send_hello()

    @property
    def holds_freeze(self) -> bool:
        """True while the extension delays the freeze after each event."""
        return self._holds_freeze and self.is_open

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def begin(self, request_id: str | None, deadline: float | None) -> None:
        """Announce that an invocation begins.

        Args:
            deadline: in seconds since the epoch.
        """
        with contain("announce an invocation to the extension"):
            if self.is_open:
                self._send_hello()
                self._send("begin", request=request_id, deadline=deadline, journal=self._journal()[0])

    def end(self, *, deliver: bool) -> bool:
        """Announce that the runtime is about to ask for its next event. Called after unguarded events too.

        Args:
            deliver: whether to request delivery of the rows in the journal.

        Returns:
            True if the request was sent, so that the extension is expected to deliver.
        """
        with contain("hand the delivery over to the extension"):
            if deliver:
                self.pipeline.decide_if_needed()
                self._send_settings()  # the key may have come in this invocation
            journal, position = self._journal() if deliver else (None, None)
            sent = self._send("end", deliver=deliver and journal is not None, journal=journal, position=position)
            return sent and deliver and journal is not None
        return False

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if self in _open:
            _open.remove(self)
        if connection is not None:
            connection.close()

    def _send_hello(self) -> None:
        """Send the settings of the next invocation if they are new. A login in user code may change them."""
        self.pipeline = self._guard.pipeline
        self._send_settings()

    def _send_settings(self) -> None:
        settings = self.pipeline.settings
        if settings is self._sent_settings:
            return
        from .protocol import settings_of

        self._send(
            "hello", pid=os.getpid(), settings=settings_of(settings), path=[entry for entry in sys.path if entry],
            holds_freeze=self._holds_freeze,
        )
        self._sent_settings = settings

    def _journal(self) -> tuple[str | None, list[int] | None]:
        """The journal's path and the position after its last row; None for a journal in memory."""
        journal = self.pipeline.journal()
        if not journal.durable:
            return None, None
        return str(getattr(journal, "path")), list(journal.end)  # noqa: B009 - only journals on disk have a path

    def _send(self, kind: str, **values: Any) -> bool:
        from .protocol import encode

        connection = self._connection
        if connection is None:
            return False
        import socket

        data = encode(kind, **values)
        try:
            # User code may have restored SIGPIPE's default action, which ends the process.
            if connection.send(data, getattr(socket, "MSG_NOSIGNAL", 0)) == len(data):
                return True
        except OSError as error:
            logger.debug("the link to the extension is closed: %s", error)
        self.close()
        return False


def _hook() -> None:
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for link in list(_open):
        link.close()
