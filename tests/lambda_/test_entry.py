"""Guarding without a code change: the handler that loads the function's own handler, and the exec wrapper."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from layer import WRAPPER, built, sandbox, unpacked
from support import REPOSITORY

from trace_guard.testing import BraintrustServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

ENTRY = "trace_guard_lambda.entry.handler"
MODULES = {
    "works.py": """
        import braintrust
        async def waits(event, context): return "waited"
        def handler(event, context):
            with braintrust.start_span("step"):
                return "worked"
    """,
    "deep/in/there.py": "def handler(event, context): return __name__",
    "lacks_a_module.py": "import nothing_like_it",
    "raises.py": """
        def connect(): raise ConnectionError("no database today")
        connect()
    """,
    "exits.py": "import sys; sys.exit(4)",
    "is_cut.py": "def handler(event, context:",
}


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("layer")
    built(place / "layer.zip", "--no-dependencies")
    return unpacked(place / "layer.zip", place / "opt")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's function, in several states."""
    place = tmp_path_factory.mktemp("code")
    for name, text in MODULES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(dedent(text))
    return place


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        yield server


def roots(server: BraintrustServer) -> list[dict[str, Any]]:
    return [row for row in server.span_rows() if not row["span_parents"]]


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        ("works.handler", "worked"), ("works.waits", "waited"), ("deep/in/there.handler", "deep.in.there"),
        ("deep.in.there.handler", "deep.in.there"),
    ],
)
def test_a_function_is_guarded_as_it_is(
    server: BraintrustServer, opt: Path, code: Path, handler: str, result: str
) -> None:
    """With the wrapper, an unchanged function, plain or async and in any folder, returns its result and has one
    trace."""
    with sandbox(server, opt, code=code, handler=handler, env=WRAPPER) as function:
        assert function.invoke({"n": 1}).payload == result
        server.wait_for(lambda: server.span_rows() and not server.open_spans(), timeout=5)
    (root,) = roots(server)
    assert (root["span_attributes"]["name"], root["input"], root["output"]) == ("function", {"n": 1}, result)
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_it_is_guarded_without_the_wrapper_too(server: BraintrustServer, code: Path) -> None:
    """With the handler configured, and the function's own handler in TRACE_GUARD_HANDLER, a function needs no layer."""
    with sandbox(server, None, code=code, handler=ENTRY, env={"TRACE_GUARD_HANDLER": "works.handler"}) as function:
        assert function.invoke({}).payload == "worked"
        server.wait_for(lambda: len(server.span_rows()) == 2 and not server.open_spans(), timeout=5)


def test_without_a_handler_it_says_what_to_set(server: BraintrustServer, code: Path) -> None:
    """Without TRACE_GUARD_HANDLER, the init fails with an error that names the variable to set."""
    with sandbox(server, None, code=code, handler=ENTRY) as function:
        told = function.invoke({}).payload
    assert told["errorType"] == "RuntimeError"
    assert "TRACE_GUARD_HANDLER is ''" in told["errorMessage"]


def test_a_guard_of_the_code_s_own_comes_first(server: BraintrustServer, opt: Path) -> None:
    """A handler that its code guards keeps that guard's settings and has one root."""
    with sandbox(server, opt, code="layer_guarded", env=WRAPPER) as function:
        assert function.invoke("go").status == "ok"
        server.wait_for(lambda: server.span_rows() and not server.open_spans(), timeout=5)
    assert [root["span_attributes"]["name"] for root in roots(server)] == ["mine"]


def test_the_function_finds_its_own_handler_s_name(server: BraintrustServer, opt: Path) -> None:
    """Code that reads _HANDLER finds the function's own handler."""
    with sandbox(server, opt, env=WRAPPER) as function:
        assert function.invoke({"do": "answer"}).payload == {"answer": "YES", "handler": "app.handler"}


ERRORS = {
    "lacks_a_module.handler": "No module named 'nothing_like_it'",
    "raises.handler": "no database today",
    "exits.handler": "SystemExit: 4",
    "is_cut.handler": "SyntaxError",
    "works.nothing": "Handler 'nothing' missing on module 'works'",
    "absent.handler": "No module named 'absent'",
    "nonsense": "Bad handler 'nonsense'",
}


@pytest.mark.parametrize("handler", ERRORS)
def test_an_init_that_fails_is_a_trace(server: BraintrustServer, opt: Path, code: Path, handler: str) -> None:
    """An error at the import of the user's module is traced, delivered before the process ends, and reported by the
    runtime as without a guard."""
    with sandbox(server, None, code=code, handler=handler) as unguarded:
        expected = unguarded.invoke({})
    assert server.requests == []
    # With the default timeout, a busy machine may leave the delivery to the next start.
    env = {**WRAPPER, "TRACE_GUARD_FLUSH_TIMEOUT": "8"}
    with sandbox(server, opt, code=code, handler=handler, env=env) as function:
        result = function.invoke({})
        assert server.open_spans() == []
        (root,) = roots(server)
    told = [{key: each.payload.get(key) for key in ("errorType", "errorMessage")} for each in (result, expected)]
    for each, of in zip(told, (result, expected), strict=True):
        each["errorMessage"] = each["errorMessage"].replace(of.request_id, "ID")
    assert told[0] == told[1]
    assert (result.status, result.exit_status) == (expected.status, expected.exit_status)
    assert root["span_attributes"]["name"] == "function"
    assert root["metadata"]["trace_guard"] == {"outcome": "error", "reason": "init"}
    assert ERRORS[handler] in root["error"]
    assert root["metrics"]["start"] < root["metrics"]["end"]
    if handler == "raises.handler":
        assert "in connect" in root["error"]


def test_a_dead_backend_does_not_delay_a_failing_init(server: BraintrustServer, opt: Path, code: Path) -> None:
    """A failing init is reported without delay if the backend is down, and the next start delivers its trace."""
    server.refuse_connections()
    with sandbox(server, opt, code=code, handler="raises.handler", env=WRAPPER) as function:
        result = function.invoke({})
        assert (result.payload["errorType"], result.init_seconds < 10) == ("ConnectionError", True)
        server.accept_connections()
        function.invoke({})
        server.wait_for(lambda: len(roots(server)) == 2 and not server.open_spans(), timeout=10)


def wrapped(script: Path, *command: str, **environment: str) -> list[str]:
    """The command and environment that the wrapper starts, as printed by the command."""
    tell = 'echo "$_HANDLER"; echo "$TRACE_GUARD_HANDLER"; echo "$PYTHONPATH"; echo "$@"'
    done = subprocess.run(
        [str(script), "sh", "-c", tell, *command], env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, text=True, check=True,
    )
    return done.stdout.splitlines()


def test_the_wrapper_knows_both_kinds_of_runtime(opt: Path, tmp_path: Path) -> None:
    """The wrapper takes the handler from _HANDLER for managed runtimes and from the argument for container images,
    and leaves any other command unchanged."""
    script = opt / "trace-guard-exec"
    path = str(opt / "python")
    assert wrapped(script, "/var/runtime/bootstrap.py", _HANDLER="app.handler") == [ENTRY, "app.handler", path, ""]
    image = ("/var/lang/bin/python3.12", "-m", "awslambdaric", "app.handler")
    assert wrapped(script, *image, PYTHONPATH="/code") == [
        ENTRY, "app.handler", f"/code:{path}", f"-m awslambdaric {ENTRY}"
    ]
    assert wrapped(script, "x", _HANDLER=ENTRY, TRACE_GUARD_HANDLER="a.b") == [ENTRY, "a.b", "", ""]
    assert wrapped(script, "x", _HANDLER="a.b", TRACE_GUARD_DISABLED="True") == ["a.b", "", "", ""]
    assert wrapped(script, "x") == ["", "", "", ""]
    alone = tmp_path / "trace-guard-exec"
    alone.write_bytes(script.read_bytes())
    alone.chmod(0o755)
    assert wrapped(alone, "x", _HANDLER="a.b") == ["a.b", "", "", ""]


def test_the_example_runs_as_it_is(server: BraintrustServer, opt: Path) -> None:
    """The example's unguarded code is traced, with its tools below one root."""
    with sandbox(server, opt, code=REPOSITORY / "examples" / "lambda_layer", env=WRAPPER) as function:
        assert function.invoke({"question": "Where is my parcel?"}).payload["answer"]
        server.wait_for(lambda: len(server.span_rows()) > 1 and not server.open_spans(), timeout=5)
    assert len(roots(server)) == 1
