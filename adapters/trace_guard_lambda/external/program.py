"""The first part of the layer's extension: it registers, listens for the runtime, and asks for its first event.

The service starts the runtime only when every extension has registered. So this file runs without its package and
imports almost nothing before: ``typing``, ``json`` and ``socket`` would double Python's start time. After any later
fault it still asks for events, because the service ends an environment whose extension has exited, and waits for an
extension that does not ask.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import _socket
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = [
    "ExtensionsApi", "check_owner", "in_own_directory", "listen", "main", "socket_path", "user_at_other_end",
]

SOCKET = "extension.sock"
# The prefixes of all names in a directory that only trace-guard uses.
_NAMES = ("journals", "dead-letters", "cache", "attachments", "traces.db", SOCKET)
_PREFIX = "/2020-01-01/extension/"
_ANSWER_SECONDS = 5.0
_MOST_BYTES = 1 << 20
_PAUSE_SECONDS = 0.1
# If the service can't be reached for this long, the environment has ended and left this process behind.
_LEFT_BEHIND_SECONDS = 20.0


def socket_path(environ: Mapping[str, str]) -> str:
    """The path of the extension's socket, from variables that both processes have."""
    configured = environ.get("TRACE_GUARD_DIR", "").strip()
    # The same default as in trace_guard.settings, whose import would take too long here.
    directory = configured or os.path.join(environ.get("TMPDIR") or "/tmp", "trace-guard")
    directory = os.path.abspath(os.path.expanduser(directory))
    is_shared = _is_shared(directory)
    return os.path.join(directory, f"trace-guard-{os.geteuid()}" if is_shared else "", SOCKET)


def _is_shared(directory: str) -> bool:
    """True for a directory like /tmp, in which another user could create the socket first. It decides as
    ``trace_guard.journal.directory`` does."""
    try:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or not status.st_mode & 0o022:
            return False
        if status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid():
            return True
        return any(not name.startswith(_NAMES) for name in os.listdir(directory))
    except OSError:
        return False


def in_own_directory(path: str, use: Callable[[str], T], *, claim: bool = False) -> T:
    """Call ``use`` with a path into a directory that only this user can write.

    The path goes through an open descriptor of the directory. It is short enough for a socket's address, and still
    leads to the checked directory if the original path is replaced.

    Args:
        claim: remove other users' permissions if this user owns the directory.

    Raises:
        PermissionError: another user owns the directory, or can write to it; or it is a symlink.
        OSError: there is no such directory.
    """
    parent, name = os.path.split(path)
    if os.path.islink(parent):
        raise PermissionError(f"{parent} is a symlink")
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if claim and os.fstat(directory).st_uid == os.geteuid():
            os.fchmod(directory, 0o700)
        check_owner(os.fstat(directory), parent)
        return use(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)


def check_owner(status: os.stat_result, path: str) -> None:
    """Check that only this user can write to a file or directory.

    Raises:
        PermissionError: another user owns it or can write to it.
    """
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}")
    if status.st_mode & 0o022:
        raise PermissionError(f"{path} can be written by other users (mode {stat.S_IMODE(status.st_mode):04o})")


def user_at_other_end(connection: _socket.socket) -> int:
    """The user id of the process at the other end of a local socket."""
    # struct ucred: the ids of process, user and group, unix(7)
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def listen(path: str) -> _socket.socket:
    """A socket that runtimes of the same user connect to. Replaces the socket of an earlier extension.

    Raises:
        OSError: the directory can't be written, or other users can write to it.
    """
    before = os.umask(0o077)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return in_own_directory(path, _listener, claim=True)
    finally:
        os.umask(before)


def _listener(path: str) -> _socket.socket:
    if os.path.lexists(path):
        os.unlink(path)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(16)
    return listener


class ExtensionsApi:
    """A client of the Extensions API over plain sockets.

    Attributes:
        identifier: assigned by the service at the registration.
        connection: will receive the next event; None while no event is requested.
        receives_invocations: False where an extension can't register for INVOKE events, as on managed instances.
    """

    def __init__(self, address: str, name: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host or address, int(port) if host else 80)
        self._host = address
        self._name = name
        self.identifier = ""
        self.connection: _socket.socket | None = None
        self.receives_invocations = False

    def register(self, *events: str) -> bool:
        """Register for events. Returns False if the service refuses."""
        body = b'{"events": [%s]}' % b", ".join(b'"%s"' % event.encode() for event in events)
        connection = self._send("POST", "register", body, f"Lambda-Extension-Name: {self._name}")
        status, headers, _ = _answer(connection, _ANSWER_SECONDS)
        self.identifier = headers.get("lambda-extension-identifier", "")
        self.receives_invocations = "INVOKE" in events
        return status == 200 and bool(self.identifier)

    def ask(self) -> None:
        """Ask for the next event, which also reports this one as done. The answer arrives on ``connection``.

        Raises:
            SystemExit: the service could not be reached for a long time, so the environment has ended.
        """
        limit = time.monotonic() + _LEFT_BEHIND_SECONDS
        while self.connection is None:
            try:
                header = f"Lambda-Extension-Identifier: {self.identifier}"
                self.connection = self._send("GET", "event/next", b"", header)
            except OSError as error:
                if time.monotonic() > limit:
                    raise SystemExit(0) from error
                time.sleep(_PAUSE_SECONDS)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the requested event. Returns None if the answer is no event."""
        import json

        connection, self.connection = self.connection, None
        if connection is None:
            return None
        try:
            status, _, body = _answer(connection, None)
            event = json.loads(body) if status == 200 else None
        except (OSError, ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            time.sleep(_PAUSE_SECONDS)
            return None
        return event

    def idle(self) -> None:
        """Ask for events and ignore them until the environment ends."""
        while True:
            self.ask()
            event = self.receive()
            if event is not None and event.get("eventType") == "SHUTDOWN":
                return

    def _send(self, method: str, path: str, body: bytes, header: str) -> _socket.socket:
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(self._address)
            head = f"{method} {_PREFIX}{path} HTTP/1.1\r\nHost: {self._host}\r\n{header}\r\nConnection: close\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
        except BaseException:
            connection.close()
            raise
        return connection


def _answer(connection: _socket.socket, timeout: float | None) -> tuple[int, dict[str, str], bytes]:
    """Read the status, the headers (names in lower case) and the body. Closes the connection.

    Args:
        timeout: the most seconds until the answer begins; None for no limit.

    Raises:
        OSError, ValueError: the answer breaks off, takes too long once it has begun, is too long, or is not HTTP.
    """
    try:
        connection.settimeout(timeout)
        answer = _Answer(connection, connection.recv(1 << 16))
        head, body = _until(answer, answer.begin, b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding", "").lower() != "chunked":
            body = _up_to(answer, body, int(headers.get("content-length") or 0))
            return int(first.split()[1]), headers, body
        whole = b""
        while True:
            size, rest = _until(answer, body, b"\r\n")
            length = int(size.split(b";")[0], 16)
            if length < 0:
                raise ValueError("a chunk of negative length")
            rest = _up_to(answer, rest, length + 2)
            if not length:
                return int(first.split()[1]), headers, whole
            whole, body = whole + rest[:length], rest[length + 2 :]
    except IndexError as error:
        raise ValueError("an answer without a status") from error
    finally:
        connection.close()


class _Answer:
    """An answer that has begun. Limits the seconds and bytes of the rest."""

    def __init__(self, connection: _socket.socket, begin: bytes) -> None:
        self.begin = begin
        self._connection = connection
        self._limit = time.monotonic() + _ANSWER_SECONDS
        self._bytes = len(begin)
        if not begin:
            raise ConnectionResetError("the connection ended without an answer")

    def more(self, data: bytes) -> bytes:
        """``data`` and the bytes that follow it."""
        left = self._limit - time.monotonic()
        if left <= 0 or self._bytes > _MOST_BYTES:
            raise ValueError("the answer does not end")
        self._connection.settimeout(left)
        chunk = self._connection.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        self._bytes += len(chunk)
        return data + chunk


def _until(answer: _Answer, data: bytes, mark: bytes) -> tuple[bytes, bytes]:
    """Read up to a mark. Returns the bytes before and after it."""
    while mark not in data:
        data = answer.more(data)
    before, _, after = data.partition(mark)
    return before, after


def _up_to(answer: _Answer, data: bytes, length: int) -> bytes:
    """Read until there are at least ``length`` bytes."""
    while len(data) < length:
        data = answer.more(data)
    return data


def main(script: str, identifier: str = "") -> None:
    """Run the extension until the environment ends.

    Args:
        script: the executable in the layer. The extension has its name.
        identifier: of an extension that registered and died. This process then only asks for events in its place.
    """
    api = ExtensionsApi(os.environ["AWS_LAMBDA_RUNTIME_API"], os.path.basename(script))
    if identifier:
        api.identifier = identifier
        api.idle()
        return
    is_disabled = os.environ.get("TRACE_GUARD_DISABLED", "").strip().lower() in ("true", "1", "yes", "on")
    listener = None
    try:
        # Listen before the registration, after which the runtime may start.
        listener = None if is_disabled else listen(socket_path(os.environ))
    except OSError as error:
        log(f"the extension can't listen, and does nothing: {error}")
    # Not every environment accepts every event.
    choices = [("INVOKE", "SHUTDOWN"), ("SHUTDOWN",), ()] if listener is not None else [()]
    while not any(_try_register(api, events) for events in choices):
        time.sleep(_PAUSE_SECONDS)
    _print_identifier(api.identifier)
    api.ask()
    if listener is not None:
        try:
            packages = os.path.join(os.path.dirname(os.path.abspath(script)), "..", "python")
            version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            sys.path[:0] = [os.path.abspath(packages), os.path.abspath(f"{packages}/lib/{version}/site-packages")]
            from trace_guard_lambda.external.process import Process

            Process(api, listener, user_at_other_end).run()
            return
        except Exception as fault:  # noqa: BLE001 - no fault of ours may affect the function
            log(f"the extension does nothing from here on: {fault!r}")
            listener.close()
    api.idle()


def _try_register(api: ExtensionsApi, events: tuple[str, ...]) -> bool:
    try:
        return api.register(*events)
    except (OSError, ValueError):
        return False


def _print_identifier(identifier: str) -> None:
    """Print the identifier to stdout for the script, and redirect later output on stdout to the log."""
    try:
        os.write(1, identifier.encode() + b"\n")
        os.dup2(2, 1)
    except OSError:
        return  # the script has gone


def log(message: str) -> None:
    """Write one line to the function's log."""
    try:
        from trace_guard.redaction.outside_text import printable
    except ImportError:  # this file runs without its package, which may be missing
        line = ascii(message)[1:-1]
    else:
        line = printable(message)
    print(f"trace-guard: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
