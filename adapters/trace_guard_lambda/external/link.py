"""The runtime's end of the socket to the external extension."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from trace_guard.contain import contain, logger, warn_once

if TYPE_CHECKING:
    import socket

    from trace_guard.runtime.pipeline import Pipeline
    from trace_guard.settings import Settings

__all__ = ["Link", "connect"]

_CONNECT_SECONDS = 0.1
_open: list[Link] = []
_hooked = False


def connect(pipeline: Pipeline, *, gates: bool = False) -> Link | None:
    """The link to the extension of this environment; None if there is none, which takes microseconds to find out.

    The link carries the API key, so it is made on Lambda alone, and only to a process of the same user.

    Args:
        pipeline: whose journal the extension is to share. One with a backend of its own, which only this process
            has, is not shared.
        gates: whether the extension is to hold back the freeze after each event, until :meth:`Link.end`.
    """
    if pipeline.key is None or pipeline.settings.backend_name == "memory" or not _is_lambda():
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
        logger.debug("no extension listens at %s: %s", path, error)  # it was another environment's, on the same disk
        return None
    connection.setblocking(False)
    link = Link(pipeline, connection, gates=gates)
    return link if link.is_open else None


def _is_lambda() -> bool:
    return bool(os.environ.get("AWS_LAMBDA_RUNTIME_API") and os.environ.get("AWS_LAMBDA_FUNCTION_NAME"))


def _connect(connection: socket.socket, path: str, name: str) -> None:
    """
    Args:
        path: leads to the socket.
        name: is for messages.

    Raises:
        PermissionError: another user owns the socket, can write to it, or listens at it.
    """
    from .program import check_owner, user_at_other_end

    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise PermissionError(f"{name} is not a socket")
    check_owner(found, name)
    connection.connect(path)
    user = user_at_other_end(connection)
    if user != os.geteuid():
        raise PermissionError(f"user {user} listens there, not user {os.geteuid()}")


class Link:
    """Tells the extension of each invocation. Never blocks and never raises: what the socket does not take at once
    ends the link. The extension takes its end for the runtime's, and finds that the journal is still held.

    Its end in a forked child is no end: the child's copy is closed, as the parent's death could not be seen else.

    Attributes:
        pipeline: whose journal is shared.
    """

    def __init__(self, pipeline: Pipeline, connection: socket.socket, *, gates: bool) -> None:
        self.pipeline = pipeline
        self._connection: socket.socket | None = connection
        self._gates = gates
        self._told: Settings | None = None
        _hook()
        _open.append(self)
        with contain("greet the extension"):
            self._greet()

    @property
    def gates(self) -> bool:
        """True while the extension holds the freeze back after each event."""
        return self._gates and self.is_open

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def begin(self, request_id: str | None, deadline: float | None) -> None:
        """An invocation begins.

        Args:
            deadline: in seconds since the epoch.
        """
        with contain("tell the extension of an invocation"):
            if self.is_open:
                self._greet()
                self._send("begin", request=request_id, deadline=deadline, journal=self._journal()[0])

    def end(self, *, deliver: bool) -> bool:
        """The runtime is about to ask for its next event, also if the last one was not guarded.

        Args:
            deliver: whether the extension is to deliver what is in the journal.

        Returns:
            True if it will, as far as can be known.
        """
        with contain("hand the delivery over to the extension"):
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

    def _greet(self) -> None:
        """Say where rows go, unless it has been said: a login by the program's own code may change it."""
        settings = self.pipeline.settings
        if settings is self._told:
            return
        from .protocol import settings_of

        self._send(
            "hello", pid=os.getpid(), settings=settings_of(settings), path=[entry for entry in sys.path if entry],
            gates=self._gates,
        )
        self._told = settings

    def _journal(self) -> tuple[str | None, list[int] | None]:
        """The journal's path, and the position behind its last row; nothing if it is in memory only."""
        journal = self.pipeline.journal()
        if not journal.durable:
            return None, None
        return str(getattr(journal, "path")), list(journal.end)  # noqa: B009 - of those in files only

    def _send(self, kind: str, **values: Any) -> bool:
        from .protocol import encode

        connection = self._connection
        if connection is None:
            return False
        import socket

        data = encode(kind, **values)
        try:
            # User code may have given SIGPIPE back its default, which ends the process.
            if connection.send(data, getattr(socket, "MSG_NOSIGNAL", 0)) == len(data):
                return True
        except OSError as error:
            logger.debug("the extension can't be told anything: %s", error)
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
