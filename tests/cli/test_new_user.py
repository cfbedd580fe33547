"""Each command as somebody meets it for the first time: no key, a wrong key, no network, nothing there yet."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trace_guard import Guard
from trace_guard.cli import main
from trace_guard.testing import BraintrustServer

NOWHERE = "http://127.0.0.1:1"
NO_ANSWER = "127.0.0.1:1 did not answer.*check the network, BRAINTRUST_API_URL.*`trace-guard doctor`"
REFUSED = "answered 401.*check BRAINTRUST_API_KEY"


@pytest.fixture(scope="module")
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(api_keys=["key"]) as server:
        server.add_project("empty", "P")
        yield server


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A directory whose local store has a trace."""
    guard = Guard(backend="local", dir=tmp_path)
    with guard.invocation("ask"):
        pass
    guard.close()
    return tmp_path


def run(command: str, directory: Path, **variables: str) -> tuple[int, str]:
    """The exit code of a command, and what it prints on one line. In this process, which is quick."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRAINTRUST_", "TRACE_GUARD_"))}
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed),
    ):
        patched.setattr(os, "environ", {**kept, "TRACE_GUARD_DIR": str(directory), **variables})
        code = main(command.split())
    return code, " ".join(printed.getvalue().split())


@pytest.mark.parametrize("command", ["reap --all-projects --close", "send", "ui --no-open --port 0 --project empty"])
@pytest.mark.parametrize(("key", "url", "says"), [
    ("", None, "BRAINTRUST_API_KEY"), ("wrong", None, REFUSED), ("key", NOWHERE, NO_ANSWER),
], ids=["no key", "wrong key", "no network"])
def test_what_needs_braintrust_says_what_to_do(
    server: BraintrustServer, filled: Path, command: str, key: str, url: str | None, says: str
) -> None:
    """Without a key, with a wrong one and without a network a command is one line that says what to do."""
    url = url or server.url
    code, text = run(command, filled, BRAINTRUST_API_KEY=key, BRAINTRUST_API_URL=url, BRAINTRUST_APP_URL=url)
    assert code in (1, 2)
    assert text.startswith("trace-guard: ")
    assert text.count("trace-guard: ") == 1
    assert re.search(says, text), text


@pytest.mark.parametrize("command", ["traces", "show abc", "status", "recover", "recover --refused", "doctor"])
@pytest.mark.parametrize(("key", "url"), [("", None), ("wrong", None), ("key", NOWHERE)],
                         ids=["no key", "wrong key", "no network"])
def test_what_is_local_works_without_braintrust(
    server: BraintrustServer, tmp_path: Path, command: str, key: str, url: str | None
) -> None:
    """Commands about this machine answer in an empty directory, whatever the key and the network are."""
    url = url or server.url
    code, text = run(
        command, tmp_path / "none", BRAINTRUST_API_KEY=key, BRAINTRUST_API_URL=url, BRAINTRUST_APP_URL=url
    )
    assert code == (1 if command == "doctor" or command.startswith("show") else 0)
    assert text
    assert "Traceback" not in text


@pytest.mark.parametrize(("command", "code", "says"), [
    ("reap --project empty", 0, "No stuck trace"), ("reap --project nothing", 2, "there is no project 'nothing'"),
    ("ui --no-open --port 0 --project nothing", 2, "there is no project 'nothing'"),
    ("send", 0, "0 spans sent"),
])
def test_an_empty_project(server: BraintrustServer, tmp_path: Path, command: str, code: int, says: str) -> None:
    """Where nothing is, or there is no such project, that is said."""
    variables = {"BRAINTRUST_API_KEY": "key", "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url}
    found = run(command, tmp_path, **variables)
    assert found[0] == code
    assert says in found[1]
