"""The link to the external extension, which carries the API key, only leads to a process of the same user."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import A_WHILE, Program, environment

from trace_guard.journal.directory import locate
from trace_guard_lambda.external.program import SOCKET, in_own_directory, listen, socket_path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Lambda is Linux")

KEY = "sk-for-one-user-only"
NOBODY = 65534
LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9", "AWS_LAMBDA_FUNCTION_NAME": "f"}
REFUSAL = "does not connect to its extension"

HANDLER = """
from trace_guard_lambda import guard_handler

@guard_handler
def handler(event, context):
    return event

say(handler("answer", None), handler("answer", None))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The function's TRACE_GUARD_DIR."""
    directory = tmp_path / "trace-guard"
    directory.mkdir(mode=0o700)
    return directory


def listener_at(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o600)
    made.listen()
    return made


def received(listener: socket.socket) -> bytes:
    """The bytes that have arrived over a connection so far; empty without a connection."""
    listener.settimeout(0)
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return b""
    with connection:
        connection.settimeout(A_WHILE)
        data = b""
        while chunk := connection.recv(1 << 16):
            data += chunk
        return data


def run_handler(place: Path, **variables: str) -> str:
    """Guard and call a handler in a separate process. Returns what it writes to stderr."""
    given = environment(
        None, place, BRAINTRUST_API_KEY=KEY, BRAINTRUST_API_URL="http://127.0.0.1:9",
        BRAINTRUST_APP_URL="http://127.0.0.1:9", TRACE_GUARD_FLUSH_TIMEOUT="0", TRACE_GUARD_EXIT_TIMEOUT="0",
        **variables,
    )
    with Program(HANDLER, given) as program:
        program.expects("answer answer")
        program.ends_well()
        return program.stderr


def test_the_key_goes_to_the_extension(place: Path) -> None:
    """On Lambda, the link connects to a socket of the same user in a directory that is closed to others."""
    path = socket_path({"TRACE_GUARD_DIR": str(place)})
    with socket.socket(fileno=listen(path).detach()) as listener:
        assert REFUSAL not in run_handler(place, **LAMBDA)
        assert KEY.encode() in received(listener)


@pytest.mark.parametrize("missing", LAMBDA)
def test_there_is_no_link_outside_lambda(place: Path, missing: str) -> None:
    """Without the runtime API or the function's variables, no socket is looked for and nothing is logged."""
    with listener_at(place / SOCKET) as listener:
        variables = {name: value for name, value in LAMBDA.items() if name != missing}
        assert REFUSAL not in run_handler(place, **variables)
        assert received(listener) == b""


def _another_owner_of_directory(place: Path) -> None:
    os.chown(place, NOBODY, NOBODY)


def _another_owner_of_socket(place: Path) -> None:
    os.chown(place / SOCKET, NOBODY, NOBODY)


def _writable_socket(place: Path) -> None:
    (place / SOCKET).chmod(0o666)


def _linked_directory(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")


def _linked_socket(place: Path) -> None:
    (place / SOCKET).rename(place / "elsewhere")
    (place / SOCKET).symlink_to("elsewhere")


def _file(place: Path) -> None:
    (place / SOCKET).unlink()
    (place / SOCKET).touch(0o600)


UNTRUSTED = [
    _another_owner_of_directory, _another_owner_of_socket, _writable_socket, _linked_directory, _linked_socket, _file,
]


@pytest.mark.parametrize("arrange", UNTRUSTED, ids=lambda arrange: arrange.__name__.strip("_"))
def test_an_untrusted_socket_is_left_alone(place: Path, arrange: Callable[[Path], None]) -> None:
    """Nothing is sent to a socket that another user may have created. A warning is logged once, and the handler
    works."""
    if arrange in (_another_owner_of_directory, _another_owner_of_socket) and os.geteuid() != 0:
        pytest.skip("only the superuser can give files away")
    with listener_at(place / SOCKET) as listener:
        arrange(place)
        assert run_handler(place, **LAMBDA).count(REFUSAL) == 1
        assert received(listener) == b""


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_an_open_directory_is_not_trusted(place: Path, mode: int) -> None:
    """A socket in a directory that others can write to is not used."""
    place.chmod(mode)
    with listener_at(place / SOCKET), pytest.raises(PermissionError, match="can be written by other users"):
        in_own_directory(str(place / SOCKET), lambda path: pytest.fail(path))


@pytest.fixture
def of_nobody(place: Path) -> Iterator[Program]:
    """A process of another user that listens at a socket of this user."""
    listening = """
    import socket
    os.chdir(listen())
    os.setgid(65534)
    os.setuid(65534)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("extension.sock")
    listener.listen()
    say("ready")
    connection, _ = listener.accept()
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
    say(len(received))
    """
    with Program(listening, {}) as program:
        place.chmod(0o777)
        program.tell(str(place))
        program.expects("ready")
        os.chown(place / SOCKET, os.geteuid(), os.getegid())
        (place / SOCKET).chmod(0o600)
        place.chmod(0o700)
        yield program


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
def test_the_listener_must_be_the_same_user(place: Path, of_nobody: Program) -> None:
    """Nothing is sent to another user's process that listens at a socket of this user."""
    assert run_handler(place, **LAMBDA).count(f"user {NOBODY} listens there") == 1
    of_nobody.expects(0)


# The extension's side


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_the_extension_closes_its_directory(place: Path, mode: int) -> None:
    """Only the user can access the extension's directory and socket, whatever their modes were before."""
    place.chmod(mode)
    path = Path(socket_path({"TRACE_GUARD_DIR": str(place)}))
    with socket.socket(fileno=listen(str(path)).detach()):
        assert [one.stat().st_mode & 0o777 for one in (place, path)] == [0o700, 0o600]


def test_a_new_directory_is_closed(tmp_path: Path) -> None:
    """Only the user can access any directory that the extension creates, whatever the umask."""
    before = os.umask(0)
    try:
        path = Path(socket_path({"TRACE_GUARD_DIR": str(tmp_path / "above" / "trace-guard")}))
        with socket.socket(fileno=listen(str(path)).detach()):
            assert [one.stat().st_mode & 0o777 for one in (*path.parents[:2], path)] == [0o700, 0o700, 0o600]
    finally:
        os.umask(before)


def test_a_shared_directory_gets_a_private_one(place: Path) -> None:
    """In a directory like /tmp, both sides use a subdirectory that belongs to the user."""
    place.chmod(0o1777)
    path = Path(socket_path({"TRACE_GUARD_DIR": str(place)}))
    assert path == place / f"trace-guard-{os.geteuid()}" / SOCKET
    with socket.socket(fileno=listen(str(path)).detach()) as listener:
        assert REFUSAL not in run_handler(place, **LAMBDA)
        assert KEY.encode() in received(listener)
    assert place.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("name", ["another", "x.db", "journals", "dead-letters", "cache", "traces.db", "attachments"])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777, 0o770, 0o1777])
def test_the_socket_is_where_the_journals_are(place: Path, name: str, mode: int) -> None:
    """The extension and the journal choose the same directory, whatever its mode and content."""
    (place / name).touch()
    place.chmod(mode)
    assert Path(socket_path({"TRACE_GUARD_DIR": str(place)})).parent == locate(place)


def _anothers_directory(place: Path) -> None:
    os.chown(place, NOBODY, NOBODY)


@pytest.mark.parametrize("arrange", [_anothers_directory, _linked_directory], ids=["another_owner", "link"])
def test_the_extension_does_not_listen_elsewhere(place: Path, arrange: Callable[[Path], None]) -> None:
    """The extension refuses a directory that another user may have created."""
    if arrange is _anothers_directory and os.geteuid() != 0:
        pytest.skip("only the superuser can give files away")
    arrange(place)
    with pytest.raises(PermissionError, match=r"belongs to user|is a symlink"):
        listen(str(place / SOCKET))
    assert list(place.iterdir()) == []
