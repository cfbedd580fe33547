"""The simulated Cloud Run: how it starts, freezes, calls and ends a server."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import until

from trace_guard.testing import CloudRunSandbox, HttpResponse

CASES = Path(__file__).parent.parent / "functions" / "cloud_run_cases"
SYNC = "gunicorn --bind :$PORT wsgi:app"
THREADS = "gunicorn --bind :$PORT --threads 80 wsgi:app"
UVICORN = "uvicorn asgi:app --host 0.0.0.0 --port ${PORT}"
SERVERS = {
    "sync": SYNC,
    "gthread": "exec gunicorn --bind :$PORT --threads 4 --workers 2 wsgi:app",
    "preload": "gunicorn --bind :$PORT --threads 4 --workers 2 --preload wsgi:app",
    "uvicorn": UVICORN,
    "functions-framework": "functions-framework --target count --source main.py",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


def sandbox_of(command: Any, **keywords: Any) -> CloudRunSandbox:
    """With a timeout that a test which waits for ever fails at."""
    return CloudRunSandbox(command, code=CASES, **{"timeout": 20, **keywords})


@pytest.fixture(scope="module")
def threaded() -> Iterator[CloudRunSandbox]:
    """A server for all the tests that leave it as it was."""
    with sandbox_of(THREADS) as sandbox:
        yield sandbox


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(80) as pool:
        yield pool


def thread_states(pids: list[int]) -> set[str]:
    """The states of all threads of some processes, as single letters; T is "stopped"."""
    stats = [(task / "stat").read_text() for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def alive(pid: int) -> bool:
    try:
        return thread_states([pid]) != {"Z"}
    except FileNotFoundError:
        return False


def counters(sandbox: CloudRunSandbox) -> dict[str, int]:
    found = {path.name: path.read_bytes() for path in sandbox.tmp.glob("counter-*")}
    return {name: struct.unpack("Q", value)[0] for name, value in found.items() if value}


def tell(sandbox: CloudRunSandbox, what: str) -> None:
    (sandbox.tmp / what).touch()


def data(response: HttpResponse) -> list[bytes]:
    return [chunk.data for chunk in response.chunks]


# Freezing


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_runs_only_while_a_request_is_in_flight(server: str) -> None:
    """Between two requests not a thread of any of the server's processes runs, and in a request they go on."""
    with sandbox_of(SERVERS[server]) as sandbox:
        assert sandbox.frozen
        for _ in range(10):
            response = sandbox.request("GET", "/count")
            assert (response.status, response.end, sandbox.frozen) == (200, "complete", True)
            assert thread_states(sandbox.pids) == {"T"}
        found, then = response.json(), counters(sandbox)
        assert sandbox.pid == sandbox.pids[0]
        assert found["pid"] in sandbox.pids
        assert then[f"counter-{found['pid']}"] >= found["count"]
        subprocess.run([sys.executable, "-S", "-c", ""], check=True)  # A span of time, with work for the CPUs.
        assert counters(sandbox) == then
        again = sandbox.request("GET", "/count").json()
        assert counters(sandbox)[f"counter-{again['pid']}"] > then[f"counter-{again['pid']}"]


def test_what_a_stop_meets_half_way_is_stopped_as_well() -> None:
    """When a request has ended, the process that was just being forked is stopped too, however late it gets a CPU."""
    everywhere = os.sched_getaffinity(0)
    crowded = {min(everywhere)}
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, everywhere)
        os.sched_setaffinity(0, crowded)  # what is started from here on stays on this CPU
        for _ in range(4):
            busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        sandbox = stack.enter_context(sandbox_of("python -u growing.py"))
        os.sched_setaffinity(0, everywhere)
        for _ in range(30):
            assert (sandbox.request("GET", "/").end, sandbox.frozen) == ("complete", True)


def test_without_throttling_a_server_goes_on() -> None:
    """With instance-based billing the server runs on after the response."""
    with sandbox_of(SYNC, throttle=False) as sandbox:
        name = f"counter-{sandbox.request('GET', '/count').json()['pid']}"
        then = counters(sandbox)[name]
        until(lambda: counters(sandbox)[name] > then)
        assert not sandbox.frozen


def test_a_server_runs_until_the_last_request_has_ended(
    threaded: CloudRunSandbox, threads: ThreadPoolExecutor
) -> None:
    """Of eighty requests at once each is answered by itself, and the server is frozen with the last of them."""
    waiting = [threads.submit(threaded.request, "GET", f"/wait?all-{number}") for number in range(80)]
    until(lambda: threaded.log.count("waiting") >= 80)
    for number in range(79):
        tell(threaded, f"all-{number}")
    first = [each.result() for each in waiting[:79]]
    assert {(each.status, each.text, each.end) for each in first} == {(200, "told", "complete")}
    assert not threaded.frozen
    then = max(counters(threaded).values())
    until(lambda: max(counters(threaded).values()) > then)
    tell(threaded, "all-79")
    assert waiting[79].result().text == "told"
    assert threaded.frozen


# Responses


@pytest.mark.parametrize("command", [SYNC, UVICORN], ids=["gunicorn", "uvicorn"])
def test_a_stream_is_not_held_up(command: str) -> None:
    """Each chunk of a stream is there before the next is made, with the time of its arrival."""
    with sandbox_of(command) as sandbox:
        with sandbox.stream("GET", "/stream?here") as response:
            assert (response.status, response.headers["transfer-encoding"]) == (200, "chunked")
            for number, chunk in enumerate(response):
                assert chunk.data == b"%d" % number
                assert not sandbox.frozen
                tell(sandbox, f"here-{number}")
            assert sandbox.frozen
        whole = response.response()
        assert (data(whole), whole.end) == ([b"0", b"1", b"2"], "complete")
        first, *_, last = (chunk.seconds for chunk in whole.chunks)
        assert whole.first_byte_seconds is not None
        assert 0 < whole.first_byte_seconds <= first < last <= whole.last_byte_seconds
        assert whole.ended_at - whole.sent_at == pytest.approx(whole.last_byte_seconds, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "way", "status", "body"),
    [
        ("GET", "sized", 200, b"a" * 10 + b"b" * 10),
        ("HEAD", "sized", 200, b""),
        ("GET", "nothing", 204, b""),
        ("GET", "cookies", 200, b"a" * 10 + b"b" * 10),
    ],
)
def test_a_response_ends_with_its_last_byte(
    threaded: CloudRunSandbox, method: str, way: str, status: int, body: bytes
) -> None:
    """A response is over with its last byte, whatever tells its length, and the connection serves the next one."""
    for _ in range(2):
        response = threaded.request(method, f"/{way}")
        assert (response.status, response.body, response.end, threaded.frozen) == (status, body, "complete", True)
    assert response.headers.get("set-cookie") == ("a=1, b=2" if way == "cookies" else None)


def test_a_request_arrives_as_it_was_sent(threaded: CloudRunSandbox) -> None:
    """Method, query, headers and a large body arrive, on a connection that is used again."""
    body = b"0123456789" * 100_000
    asked = [threaded.request("PUT", "/echo?a=1&b", headers={"X-Mine": "yes", "host": "mine"}, body=body).json()]
    asked += [threaded.request("POST", "/echo").json()]
    assert [(each["method"], each["query"], each["body"]) for each in asked] == [
        ("PUT", "a=1&b", body.decode()),
        ("POST", "", ""),
    ]
    assert asked[0]["client"] == asked[1]["client"]
    headers = asked[0]["headers"]
    assert (headers["X_MINE"], headers["HOST"], headers["X_FORWARDED_PROTO"]) == ("yes", "mine", "https")


def test_the_front_end_puts_its_own_span_in_between(threaded: CloudRunSandbox) -> None:
    """As on Google's front end a trace id is passed on, and the span id is the front end's own in both headers."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    for sent in ({}, {"traceparent": f"00-{trace}-{span}-01"}, {"x-cloud-trace-context": f"{trace}/1;o=1"}):
        headers = threaded.request("GET", "/echo", headers=sent).json()["headers"]
        parts = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0([01])", headers["TRACEPARENT"])
        assert parts is not None
        assert (parts[1] == trace, parts[2] == span, parts[3] == "1") == (bool(sent), False, "traceparent" in sent)
        assert headers["X_CLOUD_TRACE_CONTEXT"] == f"{parts[1]}/{int(parts[2], 16)};o={parts[3]}"


def test_without_a_front_end_the_trace_headers_are_the_clients() -> None:
    """With cloud_trace=False a traceparent arrives as it was sent, and none is invented."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with sandbox_of(SYNC, cloud_trace=False) as sandbox:
        sent = sandbox.request("GET", "/echo", headers={"Traceparent": traceparent}).json()["headers"]
        bare = sandbox.request("GET", "/echo").json()["headers"]
    assert sent["TRACEPARENT"] == traceparent
    assert not {"TRACEPARENT", "X_CLOUD_TRACE_CONTEXT"} & set(bare)


# The client goes away, or time is over


def test_a_client_can_go_away(threaded: CloudRunSandbox) -> None:
    """A client goes away when it has read enough, or waited long enough, and the server learns of it once it runs."""
    left = [threaded.request("GET", "/endless", read_at_most=limit) for limit in (0, 1, 5000)]
    with threaded.stream("GET", "/endless") as response:
        assert next(response).data
    left.append(response.response())
    assert [each.end for each in left] == ["client_gone"] * 4
    assert [(each.status, len(each.body)) for each in left[:3]] == [(200, 0), (200, 1), (200, 5000)]
    assert threaded.frozen
    with threaded.stream("GET", "/stream?while"):
        until(lambda: threaded.log.count("the client has gone") == 4)
        for number in range(3):
            tell(threaded, f"while-{number}")
    impatient = threaded.request("GET", "/wait?patience", give_up_after=0.05)
    assert (impatient.status, impatient.body, impatient.end) == (499, b"", "client_gone")
    assert 0.05 <= impatient.last_byte_seconds < 10
    tell(threaded, "patience")


def test_a_client_that_has_it_all_has_not_gone_away(threaded: CloudRunSandbox) -> None:
    """Whoever wants no more than there is gets the whole response."""
    ends = [threaded.request("GET", "/sized", read_at_most=limit).end for limit in (19, 20, 21)]
    assert ends == ["client_gone", "complete", "complete"]


def test_a_response_that_is_not_over_tells_nothing(threaded: CloudRunSandbox) -> None:
    """What came of a request can be asked when it is over, not before."""
    with threaded.stream("GET", "/endless") as response, pytest.raises(RuntimeError, match="not over"):
        response.response()
    assert (response.response().end, list(response)) == ("client_gone", [])


def test_a_request_that_takes_too_long_is_answered_by_the_service() -> None:
    """After the timeout the service answers with 504, or ends what has begun, and the server lives on, frozen."""
    with sandbox_of(SYNC, timeout=1) as sandbox:
        assert sandbox.request("GET", "/echo").json()["environment"]["CLOUD_RUN_TIMEOUT_SECONDS"] == "1"
        late = sandbox.request("GET", "/wait?late")
        assert (late.status, late.text, late.end) == (504, "upstream request timeout", "timed_out")
        assert (late.first_byte_seconds, 1 <= late.last_byte_seconds < 10, sandbox.frozen) == (None, True, True)
        tell(sandbox, "late")
        cut = sandbox.request("GET", "/stream?late", timeout=0.05)
        assert (cut.status, data(cut), cut.end, sandbox.frozen) == (200, [b"0"], "timed_out", True)
        assert sandbox.exit_status is None


# Failures of the server


def test_a_worker_that_dies_breaks_its_connection() -> None:
    """When the worker dies the service answers with 503, or what has begun is cut, and the next worker serves."""
    with sandbox_of(SYNC) as sandbox:
        dead = sandbox.request("GET", "/die")
        assert (dead.status, dead.end, dead.first_byte_seconds) == (503, "connection_lost", None)
        cut = sandbox.request("GET", "/die_inside")
        assert (cut.status, data(cut), cut.end) == (200, [b"begun"], "connection_lost")
        short = sandbox.request("GET", "/short")
        assert (short.status, len(short.body), short.end) == (200, 20, "connection_lost")
        assert sandbox.request("GET", "/count").status == 200


def test_a_missing_command_is_told_with_the_way_to_get_it() -> None:
    """A command that is not there is an error with the line that installs it."""
    sandbox = sandbox_of("hypergunicorn --bind :$PORT")
    with pytest.raises(FileNotFoundError, match=rf"'hypergunicorn'.* {sys.executable} -m pip install hypergunicorn"):
        sandbox.start()
    assert (sandbox.pid, sandbox.pids, sandbox.frozen, sandbox.exit_status) == (None, [], False, None)
    sandbox.close()
    with pytest.raises(ValueError, match="needs the command"), sandbox_of("exec"):
        pass  # It does not come so far.


def test_a_server_that_fails_to_start_is_told_with_its_log() -> None:
    """A server that ends before it serves, or never does, is an error with what it wrote, and leaves nothing."""
    with pytest.raises(RuntimeError, match=r"(?s)`gunicorn --bind.*ended with exit status 3.*no configuration"):
        sandbox_of(SYNC, env={"FAIL": "1"}).__enter__()
    mute = sandbox_of([sys.executable, "-uc", "import time; print('mute'); time.sleep(60)"])
    mute.startup_timeout = 0.5
    with pytest.raises(RuntimeError, match=r"(?s)does not serve on port \d+ after 0.5 s.*mute"):
        mute.start()
    mute.close()
    assert mute.pids == []


def test_a_sandbox_is_started_before_it_is_asked() -> None:
    """A request before the start, or the end of what was never started, is an error that says so."""
    sandbox = sandbox_of(SYNC)
    with pytest.raises(RuntimeError, match="not started"):
        sandbox.request("GET", "/")
    with pytest.raises(RuntimeError, match="no instance"):
        sandbox.terminate()
    sandbox.kill()
    sandbox.close()


# The end of an instance


@pytest.mark.parametrize(
    ("command", "exit_status"), [(SYNC, 0), (THREADS, 0), (UVICORN, -15)], ids=["sync", "gthread", "uvicorn"]
)
def test_a_request_can_end_within_the_grace(command: str, exit_status: int, threads: ThreadPoolExecutor) -> None:
    """At SIGTERM a frozen server goes on and ends by itself, but not before the request that it is at has ended."""
    with sandbox_of(command) as sandbox:
        sandbox.request("GET", "/count")
        waiting = threads.submit(sandbox.request, "GET", "/wait?grace")
        until(lambda: "waiting" in sandbox.log)
        ending = threads.submit(sandbox.terminate, 20)
        until(lambda: re.search("Handling signal: term|Shutting down", sandbox.log))
        with pytest.raises(RuntimeError, match="no more requests"):
            sandbox.request("GET", "/count")
        assert (waiting.done(), ending.done()) == (False, False)
        tell(sandbox, "grace")
        assert (waiting.result().text, waiting.result().end) == ("told", "complete")
        ended = ending.result()
        assert (ended.exit_status, ended.killed, 0 < ended.seconds < 20) == (exit_status, False, True)
        assert (sandbox.pid, sandbox.pids, sandbox.exit_status) == (None, [], exit_status)


@pytest.mark.parametrize("command", [SYNC, UVICORN], ids=["gunicorn", "uvicorn"])
def test_a_server_that_overstays_is_killed(command: str, threads: ThreadPoolExecutor) -> None:
    """What is not over when the grace is gets SIGKILL with every process, and its client loses the connection."""
    with sandbox_of(command) as sandbox:
        waiting = threads.submit(sandbox.request, "GET", "/wait?never")
        until(lambda: "waiting" in sandbox.log)
        ended = sandbox.terminate(grace=0.3)
        assert (ended.exit_status, ended.killed, 0.3 <= ended.seconds < 10) == (-9, True, True)
        assert waiting.result().end == "connection_lost"
        assert sandbox.pids == []
        with pytest.raises(RuntimeError, match="exit status -9; start it again"):
            sandbox.request("GET", "/count")


def test_only_the_first_process_is_told_to_end() -> None:
    """SIGTERM goes to the first process, from whose end on no other process of the instance lives."""
    with sandbox_of("python -u family.py") as sandbox:
        response = sandbox.request("GET", "/")
        assert (response.text, response.end) == ("as long as the connection", "complete")
        child = int(re.findall(r"the child is (\d+)", sandbox.log)[0])
        assert sandbox.pids == [sandbox.pid, child]
        ended = sandbox.terminate()
        assert (ended.exit_status, ended.killed, alive(child)) == (7, False, False)
        assert "the child was not told" in sandbox.log
        assert (sandbox.terminate().seconds, sandbox.terminate().killed) == (0, False)


def test_after_its_end_another_instance_can_be_started() -> None:
    """After any end start() gives another instance, which finds the same directory."""
    with sandbox_of(SYNC) as sandbox:
        sandbox.start()
        first = sandbox.pid
        tell(sandbox, "volume")
        sandbox.kill()
        assert (sandbox.pid, sandbox.pids, sandbox.exit_status) == (None, [], -9)
        sandbox.start()
        assert sandbox.pid not in (None, first)
        assert sandbox.request("GET", "/wait?volume").text == "told"
        assert sandbox.log.count("Starting gunicorn") == 2


# Around it


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server finds Cloud Run's variables and those it was given, and nothing else of the test's own."""
    monkeypatch.setenv("BRAINTRUST_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "relative")
    with CloudRunSandbox(SYNC, code=CASES, env={"GIVEN": "1"}, tmp=tmp_path, service="bot") as sandbox:
        found = sandbox.request("GET", "/echo").json()["environment"]
        assert "BRAINTRUST_API_KEY" not in found
        assert found["PYTHONPATH"] == os.path.abspath("relative")
        assert found["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
        assert (found["K_SERVICE"], found["K_REVISION"], found["K_CONFIGURATION"]) == ("bot", "bot-00001-abc", "bot")
        assert (found["CLOUD_RUN_TIMEOUT_SECONDS"], found["GIVEN"], "FUNCTION_TARGET" in found) == ("300", "1", False)
        assert found["TRACE_GUARD_DIR"] == str(sandbox.trace_guard_dir) == str(tmp_path / "trace-guard")
        assert found["TMPDIR"] == str(tmp_path)
        assert f":{found['PORT']} " in sandbox.log
    assert tmp_path.is_dir()
    elsewhere = sandbox_of(SYNC, env={"TRACE_GUARD_DIR": "/elsewhere"})
    elsewhere.close()
    assert elsewhere.trace_guard_dir == Path("/elsewhere")


@pytest.mark.parametrize("options", [["--target", "ask", "--signature-type", "typed"], ["--target=ask"]])
def test_a_function_finds_its_name_and_kind(options: list[str]) -> None:
    """What the command says of a function is in the variables that the platform sets for functions."""
    show = "import os; print(os.environ['FUNCTION_TARGET'], os.environ.get('FUNCTION_SIGNATURE_TYPE'))"
    sandbox = sandbox_of([sys.executable, "-c", show, *options])
    with pytest.raises(RuntimeError, match="ended with exit status 0"):
        sandbox.start()
    assert sandbox.log == ("ask typed\n" if "typed" in options else "ask None\n")
    sandbox.close()


def test_closing_leaves_nothing_behind() -> None:
    """Closing ends every process, frozen or busy, and leaves no thread, descriptor or directory."""
    alive_before, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with sandbox_of(SERVERS["preload"]) as frozen, sandbox_of(THREADS) as busy, ThreadPoolExecutor(1) as pool:
        frozen.request("GET", "/count")
        waiting = pool.submit(busy.request, "GET", "/wait?never")
        until(lambda: "waiting" in busy.log)
        pids = [*frozen.pids, *busy.pids]
        assert len(pids) >= 4  # Each has an arbiter and a worker.
        busy.close()
        assert waiting.result().end == "connection_lost"
    assert not any(alive(pid) for pid in pids)
    assert (set(threading.enumerate()) - alive_before, set(os.listdir("/proc/self/fd")) - descriptors) == (set(), set())
    assert not frozen.tmp.exists()
    assert not busy.tmp.exists()


def test_the_client_hangs_on_to_no_idle_connection() -> None:
    """The end of an idle server is quick, as no connection to it is kept."""
    with sandbox_of(THREADS) as sandbox:
        assert sandbox.request("GET", "/count").headers["connection"] == "keep-alive"
        assert sandbox.terminate().seconds < 2
