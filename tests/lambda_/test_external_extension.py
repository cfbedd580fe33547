"""The layer's external extension: it closes and delivers traces of functions that die, time out or defer delivery."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from layer import WRAPPER, built, sandbox, unpacked
from support import A_WHILE, Program, environment, settings_for, until

from trace_guard import Settings
from trace_guard.testing import BraintrustServer, InvokeResult, LambdaSandbox
from trace_guard_lambda.external.program import SOCKET, listen, socket_path
from trace_guard_lambda.external.protocol import Lines, encode, settings_from, settings_of

ROUND_TRIP = 0.05

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("layer")
    built(place / "layer.zip", "--no-dependencies")
    return unpacked(place / "layer.zip", place / "opt")


@pytest.fixture(scope="module")
def shared(opt: Path) -> Iterator[tuple[BraintrustServer, LambdaSandbox]]:
    """A server, and a function with unguarded code that dies repeatedly."""
    with (
        BraintrustServer(latency=ROUND_TRIP) as server,
        sandbox(server, opt, timeout=1.5, env=WRAPPER) as function,
    ):
        yield server, function


def latest_root(server: BraintrustServer) -> dict[str, Any]:
    roots = [row for row in server.span_rows() if not row["span_parents"]]
    return max(roots, key=lambda row: row["metrics"]["start"])


def sent_twice(server: BraintrustServer) -> list[str]:
    """Rows that arrived more than once, byte for byte."""
    rows = Counter(json.dumps(row, sort_keys=True) for request in server.requests for row in request.rows)
    return [row for row, times in rows.items() if times > 1]


def seconds_from_death(server: BraintrustServer, result: InvokeResult) -> float:
    """The seconds from the end of the process to the backend's acknowledgement of the last row."""
    return server.requests[-1].at + ROUND_TRIP - result.returned_at


# How functions die


CRASHES = {"die": 7, "kill": -9, "crash": -11, "run_out_of_memory": -6, "leave_children": 7}


@pytest.mark.parametrize("death", CRASHES)
def test_a_crash_is_closed_at_once(shared: tuple[BraintrustServer, LambdaSandbox], death: str) -> None:
    """The trace of a process that exits, is killed, crashes or runs out of memory is closed and delivered within 2
    s."""
    server, function = shared
    server.clear()
    result = function.invoke({"do": death})
    assert (result.status, result.exit_status) == ("crashed", CRASHES[death])
    assert (server.open_spans(), sent_twice(server)) == ([], [])
    assert seconds_from_death(server, result) < 2
    root = latest_root(server)
    assert root["metadata"]["trace_guard"] == {
        "outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended", "shutdown": "failure",
    }
    assert root["error"].startswith("Abandoned: ")
    assert 0 <= root["metrics"]["end"] - root["metrics"]["start"] < result.seconds + 1


def test_the_kernels_killer_is_noticed(
    shared: tuple[BraintrustServer, LambdaSandbox], memory_group: Path | None
) -> None:
    """The trace of a function that the kernel kills for its memory is closed and delivered within 2 s."""
    if memory_group is None:
        pytest.skip("no memory control group can be made here, and so the kernel kills nobody for its memory")
    server, function = shared
    server.clear()
    result = function.invoke({"do": "overwhelm", "group": str(memory_group)}, deadline=20)
    assert (result.status, result.exit_status) == ("crashed", -9)
    assert (server.open_spans(), sent_twice(server)) == ([], [])
    assert seconds_from_death(server, result) < 2
    assert latest_root(server)["metadata"]["trace_guard"]["shutdown"] == "failure"


# A regular expression checks for signals now and then, so it may handle SIGTERM first.
@pytest.mark.parametrize(("way", "closed_by"), [("sleep", "watchdog"), ("match", None), ("hold_the_lock", "recovery")])
def test_a_timeout_is_closed_as_timed_out(
    shared: tuple[BraintrustServer, LambdaSandbox], way: str, closed_by: str | None
) -> None:
    """A function that times out is closed as timed out within 2 s, even in C code that blocks all other threads."""
    server, function = shared
    server.clear()
    result = function.invoke({"do": way})
    assert result.status == "timed_out"
    assert (server.open_spans(), sent_twice(server)) == ([], [])
    assert seconds_from_death(server, result) < 2
    root = latest_root(server)
    about = root["metadata"]["trace_guard"]
    assert about["outcome"] == "timed_out"
    assert root["error"].startswith("TimedOut: ")
    if closed_by is not None:
        assert about["closed_by"] == closed_by
    if closed_by == "recovery":
        assert about["shutdown"] == "timeout"
        assert root["metrics"]["end"] - root["metrics"]["start"] >= 1.4


def test_undelivered_rows_are_delivered_at_the_end(opt: Path) -> None:
    """Rows that the backend refused while the function lived are delivered when its environment ends."""
    env = {**WRAPPER, "TRACE_GUARD_FLUSH_TIMEOUT": "0.2"}
    with BraintrustServer() as server, sandbox(server, opt, env=env) as function:
        server.refuse_connections()
        assert function.invoke({"do": "answer"}).status == "ok"
        server.accept_connections()
        function.shutdown()
        assert (server.open_spans(), len(server.span_rows()), sent_twice(server)) == ([], 3, [])


def test_deaths_are_closed_without_invoke_events(opt: Path) -> None:
    """A crash is also closed on managed instances, where the extension gets SHUTDOWN events only."""
    with BraintrustServer() as server, sandbox(server, opt, env=WRAPPER, registration="managed") as function:
        assert function.invoke({"do": "answer"}).status == "ok"
        assert function.invoke({"do": "kill"}).exit_status == -9
        assert (server.open_spans(), latest_root(server)["metadata"]["trace_guard"]["outcome"]) == ([], "abandoned")


# Delivery after the response


def test_it_delivers_after_the_response(opt: Path) -> None:
    """Without an internal extension, it delivers between response and freeze, in one request for each invocation."""
    with (
        BraintrustServer(latency=ROUND_TRIP) as server,
        sandbox(server, opt, code="layer_guarded", only_external=True) as function,
    ):
        function.invoke("warm up")
        for _ in range(5):
            server.clear()
            result = function.invoke("go")
            assert result.payload == ["deferred", "external-extension"]
            assert [request.path for request in server.requests] == ["/logs3"]
            assert (len(server.span_rows()), server.open_spans()) == (1, [])
            assert result.seconds < ROUND_TRIP
            assert result.billed_seconds < 4 * ROUND_TRIP
            assert result.frozen_at is not None
            assert server.requests[0].at < result.frozen_at


def test_the_journal_does_not_grow(opt: Path) -> None:
    """A journal from which only the extension delivers stays small, and its payloads are not cut."""
    env = {"TRACE_GUARD_MAX_JOURNAL_BYTES": "262144", "TRACE_GUARD_LINGER": "0.05"}
    with (
        BraintrustServer() as server,
        sandbox(server, opt, code="layer_guarded", only_external=True, env=env) as function,
    ):
        for _ in range(120):
            assert function.invoke("x" * 1000).status == "ok"
        kept = sum(path.stat().st_size for path in function.trace_guard_dir.rglob("*.seg"))
        rows = server.span_rows()
    assert (len(rows), server.open_spans(), sent_twice(server)) == (120, [], [])
    assert [row for row in rows if row.get("input") != "x" * 1000] == []
    assert kept < 131_072


def test_it_leaves_other_destinations_to_the_runtime(opt: Path) -> None:
    """Rows for another account than that of the first guard are delivered before the freeze too."""
    with (
        BraintrustServer() as server,
        sandbox(server, opt, code="two_destinations", only_external=True) as function,
    ):
        before = None
        for number, which in enumerate(("first", "second", "first", "second", "second"), 1):
            result = function.invoke(which)
            assert (result.status, result.payload) == ("ok", before)
            assert (len(server.span_rows()), server.open_spans()) == (number, [])
            assert server.requests_to("/logs3")[-1].authorization == f"Bearer {which}"
            before = {"first": ["deferred", "external-extension"], "second": ["delivered", "before-next-event"]}[which]


def test_a_link_may_outlive_its_runtime(opt: Path) -> None:
    """The trace of a dead runtime is closed even if child processes hold its link open."""
    with BraintrustServer() as server, sandbox(server, opt, env=WRAPPER) as function:
        assert function.invoke({"do": "leave_a_clone"}).exit_status == 7
        assert server.open_spans() == []
        assert latest_root(server)["metadata"]["trace_guard"]["shutdown"] == "failure"


def test_it_does_not_delay_the_freeze_beside_an_internal_extension(opt: Path) -> None:
    """It does not delay the freeze when the internal extension delivers."""
    with BraintrustServer() as server, sandbox(server, opt, code="layer_guarded") as function:
        function.invoke("warm up")
        assert function.invoke("go").payload == ["delivered", "internal-extension"]


def test_it_stops_before_the_timeout(opt: Path) -> None:
    """With a backend that never answers, it stops before the function's timeout, and no row is lost."""
    with (
        BraintrustServer() as server,
        sandbox(server, opt, code="layer_guarded", only_external=True, timeout=1.0) as function,
    ):
        function.invoke("warm up")
        server.refuse_connections()
        result = function.invoke("go")
        assert result.frozen_at is not None
        assert (result.status, result.billed_seconds < 0.9) == ("ok", True)
        server.accept_connections()
        function.invoke("go")
        until(lambda: len(server.span_rows()) == 3)
        assert server.open_spans() == []


def test_a_login_of_the_program_is_followed(opt: Path) -> None:
    """After the program's death, its trace is delivered with the credentials of its login, which are never on disk."""
    with BraintrustServer() as server, sandbox(server, opt, code="layer_guarded") as function:
        function.invoke("login")
        assert function.invoke("kill").exit_status == -9
        assert server.open_spans() == []
        assert server.requests_to("/logs3")[-1].authorization == "Bearer sk-planted-another"
        kept = [path for path in function.trace_guard_dir.rglob("*") if path.is_file()]
        assert [path for path in kept if b"sk-planted-another" in path.read_bytes()] == []


# Faults of the extension itself


def without_programs(place: Path) -> str:
    """A PATH with curl and no Python."""
    for name in ("curl", "tr", "sed"):
        program = shutil.which(name)
        assert program, f"{name} is needed"
        (place / name).symlink_to(program)
    return str(place)


@pytest.mark.parametrize("trouble", ["no python", "broken", "dead", "no directory", "disabled"])
def test_it_fails_open(opt: Path, tmp_path: Path, trouble: str) -> None:
    """No fault of the extension affects the function."""
    env, layer = {}, opt
    if trouble == "no python":
        (tmp_path / "bin").mkdir()
        env = {"PATH": without_programs(tmp_path / "bin")}
    elif trouble in ("broken", "dead"):
        layer = tmp_path / "opt"
        shutil.copytree(opt, layer, ignore=shutil.ignore_patterns("__pycache__"))
        code = {"broken": "import nothing_like_it\n", "dead": "import os\nos.kill(os.getpid(), 9)\n"}[trouble]
        (layer / "python" / "trace_guard_lambda" / "external" / "process.py").write_text(code)
    elif trouble == "no directory":
        (tmp_path / "file").touch()
        env = {"TRACE_GUARD_DIR": str(tmp_path / "file" / "below")}
    else:
        env = {"TRACE_GUARD_DISABLED": "yes"}
    said = {
        "no python": "could not be run", "broken": "does nothing from here on", "dead": "has ended too early",
        "no directory": "can't listen",
    }
    with BraintrustServer() as server, sandbox(server, layer, env=env | WRAPPER) as function:
        results = [function.invoke({"do": "answer"}) for _ in range(2)]
        assert [result.payload["answer"] for result in results] == ["YES"] * 2
        assert said.get(trouble, "") in function.log
        until(lambda: trouble == "disabled" or not server.open_spans())
        assert len(server.span_rows()) == (0 if trouble == "disabled" else 6)


def test_malformed_messages_do_no_harm(shared: tuple[BraintrustServer, LambdaSandbox]) -> None:
    """A malformed message ends its connection, and deaths are still closed."""
    server, function = shared
    server.clear()
    assert function.invoke({"do": "babble"}).payload == "said"
    assert function.invoke({"do": "kill"}).exit_status == -9
    assert (server.open_spans(), sent_twice(server)) == ([], [])
    assert latest_root(server)["metadata"]["trace_guard"]["outcome"] == "abandoned"


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
def test_other_users_are_not_listened_to(opt: Path) -> None:
    """The extension disconnects a process of another user, whatever the socket's mode, and still serves its own."""
    with BraintrustServer() as server, sandbox(server, opt, env=WRAPPER) as function:
        assert function.invoke({"do": "intrude"}, deadline=20).payload is True
        assert function.log.count("does not listen to user 65534") == 1
        assert function.invoke({"do": "kill"}).exit_status == -9
        assert latest_root(server)["metadata"]["trace_guard"]["shutdown"] == "failure"


def test_a_long_path_is_no_obstacle(opt: Path, tmp_path: Path) -> None:
    """A directory whose path is too long for a socket's address works like any other."""
    deep = tmp_path / ("d" * 100) / "trace-guard"
    with BraintrustServer() as server, sandbox(server, opt, env={**WRAPPER, "TRACE_GUARD_DIR": str(deep)}) as function:
        assert function.invoke({"do": "kill"}).exit_status == -9
        assert latest_root(server)["metadata"]["trace_guard"]["shutdown"] == "failure"
        assert (deep / SOCKET).stat().st_mode & 0o777 == 0o600


def test_its_death_does_not_end_the_runtime(tmp_path: Path) -> None:
    """A runtime whose code has restored SIGPIPE's default action survives the extension's death and notices it."""
    code = """
    import signal
    from trace_guard import Guard
    from trace_guard_lambda.external.link import connect
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    link = connect(Guard())
    say(link.is_open)
    listen()
    link.begin("request", None)
    say(link.is_open)
    """
    variables = environment(None, tmp_path, AWS_LAMBDA_RUNTIME_API="127.0.0.1:9", AWS_LAMBDA_FUNCTION_NAME="f")
    with socket.socket(fileno=listen(socket_path(variables)).detach()) as listener, Program(code, variables) as program:
        listener.settimeout(A_WHILE)
        connection, _ = listener.accept()
        program.expects(True)
        connection.close()
        program.tell()
        program.expects(False)
        program.ends_well()


# Unit tests


@pytest.mark.parametrize("variables", [{}, {"TRACE_GUARD_DIR": "~/x/../y"}, {"TRACE_GUARD_DIR": " relative "}])
def test_both_sides_use_the_same_directory(variables: dict[str, str]) -> None:
    """The extension, which can't import the settings first, computes the same directory as the settings."""
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "TMPDIR": os.environ.get("TMPDIR", ""), **variables}
    assert Path(socket_path(environ)).parent == Settings.from_env(environ).dir


def test_settings_arrive_unchanged(tmp_path: Path) -> None:
    """The settings that the runtime sends arrive unchanged, and fields of a newer release are ignored."""
    settings = settings_for(None, tmp_path, flush="before-response", redact="a,b", linger=0.25, sync="always")
    line = encode("hello", settings=settings_of(settings) | {"of_tomorrow": 1})
    lines = Lines()
    told = [message for byte in line for message in lines.feed(bytes([byte]))]
    assert [settings_from(message["settings"]) for message in told] == [settings]
    with_function = replace(settings, redact=(*settings.redact, lambda key, value: None))
    assert settings_from(json.loads(json.dumps(settings_of(with_function)))) == settings


def test_it_does_without_the_sdk() -> None:
    """Before its registration, the extension's program loads a few small modules, and never the SDK."""
    program = "import sys; before = set(sys.modules); {}; print(*sorted(set(sys.modules) - before))"
    quick = "import trace_guard_lambda.external.program"
    first, all_of_it = (
        subprocess.run(
            [sys.executable, "-c", program.format(code)], check=True, capture_output=True, text=True
        ).stdout.split()
        for code in (
            "import importlib.util as u; from pathlib import Path; "
            "s = u.spec_from_file_location('p', Path(u.find_spec('trace_guard_lambda').origin).parent / "
            "'external' / 'program.py'); s.loader.exec_module(u.module_from_spec(s))",
            quick.replace("program", "process"),
        )
    )
    assert not {"trace_guard", "http.client", "selectors"} & set(first)
    assert "trace_guard.runtime.pipeline" in all_of_it
    assert "braintrust" not in all_of_it
