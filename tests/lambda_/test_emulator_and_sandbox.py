"""Compares the sandbox with AWS's own emulator: both must answer in the same words.

There are three differences. The emulator's front end has its own messages for a timeout and for a process that exits in
its init. The emulator passes no trace header to the runtime. It uses internal names for the reasons of a shutdown, and
the sandbox uses those of the documentation:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-lifecycle-extensions-shutdown
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from emulator import Answer, Emulator, needs_opt
from support import until

from trace_guard.testing import InvokeResult, LambdaSandbox

FUNCTIONS = Path(__file__).parents[1] / "functions"
LAYER = FUNCTIONS / "sandbox_layer"
SHUTDOWN_REASONS = {"Timeout": "timeout", "ReleaseFail": "failure", "SandboxTerminated": "spindown"}


class Both:
    """A function in the emulator and in the sandbox."""

    def __init__(self, case: str, directory: Path, *, env: dict[str, str] | None = None, **more: Any) -> None:
        code = FUNCTIONS / case
        self.emulator = Emulator("app.handler", code=code, directory=directory, env=env, **more)
        self.sandbox = LambdaSandbox("app.handler", code=code, env=env, **more)

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.close()
        self.sandbox.close()

    def invoke(self, event: Any) -> tuple[Answer, InvokeResult]:
        with ThreadPoolExecutor(1) as pool:
            ours = pool.submit(self.emulator.invoke, event)
            theirs = self.sandbox.invoke(event)
            return ours.result(), theirs

    def lines_of(self, name: str) -> tuple[list[Any], list[Any]]:
        """The JSON lines that the function wrote to its temporary directory, in the emulator and in the sandbox."""
        files = [each.tmp / name for each in (self.emulator, self.sandbox)]
        noted = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        return noted[0], noted[1]


def said(result: Answer | InvokeResult) -> Any:
    """The caller's answer, without the request id."""
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", result.request_id)
    return json.loads(json.dumps(result.payload).replace(result.request_id, "ID"))


# Answers


def test_every_end_of_an_invocation(tmp_path: Path) -> None:
    """A result, an error, a result that is too large and each kind of death give identical answers."""
    ways = ["nothing", "raise", "exit", "exit_cleanly", "kill", "answer_too_much", "nothing"]
    with Both("sandbox_misbehaves", tmp_path) as both:
        results = [both.invoke(way) for way in ways]
        for way, (ours, theirs) in zip(ways, results, strict=True):
            assert (way, said(ours)) == (way, said(theirs))
        crashed = [theirs.status == "crashed" for _, theirs in results]
        assert [ours.payload.get("errorType") == "Runtime.ExitError" for ours, _ in results[2:5]] == crashed[2:5]
        # In both, a refused result kills the runtime.
        logs = both.emulator.log, both.sandbox.log
    refusal = "Failed to post handler success response. Http response code: 413. "
    for log in logs:
        told = json.loads(log.split(refusal)[1].splitlines()[0])
        assert told["errorType"] == "RequestEntityTooLarge"
        assert told["errorMessage"] == "Exceeded maximum allowed payload size (6291556 bytes)."


@pytest.mark.parametrize("way", ["raise", "import"])
def test_an_init_that_fails(tmp_path: Path, way: str) -> None:
    """An exception at import gives the same answer for the first and the second invocation."""
    with Both("sandbox_bad_init", tmp_path, env={"WAY": way}) as both:
        for _ in range(2):
            ours, theirs = both.invoke({})
            assert said(ours) == said(theirs)


def test_the_handler_gets_the_same_input(tmp_path: Path) -> None:
    """The handler gets the same event, client context, remaining time and request id."""
    with Both("sandbox_echo", tmp_path) as both:
        context = {"custom": {"a": "1"}}
        for each in (both.emulator, both.sandbox):
            result: Any = each.invoke({"n": 1}, client_context=context)
            told = result.payload
            assert (told["event"], told["client_context"]) == ({"n": 1}, {"a": "1"})
            assert told["request_id"] == result.request_id
            assert 0 < told["remaining_ms"] <= 3000
            assert re.fullmatch(r"arn:aws:lambda:us-east-1:\d{12}:function:function", told["function_arn"])


# The API for runtimes and extensions


def registration(name: str, body: str = '{"events": []}') -> list[Any]:
    return ["POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": name} if name else {}, body]


def of_extension(method: str, what: str, identifier: str | None = None, kind: str | None = None) -> list[Any]:
    headers = {"Lambda-Extension-Identifier": identifier, "Lambda-Extension-Function-Error-Type": kind}
    given = {name: value for name, value in headers.items() if value is not None}
    return [method, f"/2020-01-01/extension/{what}", given, "{}" if method == "POST" else ""]


def of_runtime(method: str, what: str) -> list[Any]:
    return [method, f"/2018-06-01/runtime/{what}", {}, "{}" if method == "POST" else ""]


# No test may leave an extension registered that never asks for an event: the init would wait for it.
AT_INIT = [
    registration(""),
    registration("", "{"),
    *(registration("a", body) for body in ("[]", "{", '{"events": "INVOKE"}', '{"events": ["COFFEE"]}')),
    *(registration("a", body) for body in ('{"events": ["SHUTDOWN"]}', '{"events": ["SHUTDOWN", "COFFEE"]}')),
    of_runtime("POST", "invocation/x/response"),
    of_runtime("POST", "invocation/x/error"),
    ["DELETE", "/2020-01-01/extension/register", {}, ""],
]
WHILE_AT_WORK = [
    of_runtime("GET", "invocation/next"),  # the same event again
    of_runtime("POST", "invocation/x/response"),
    of_runtime("POST", "invocation/x/error"),
    of_runtime("POST", "init/error"),
    of_runtime("POST", "invocation/next"),
    of_runtime("GET", "invocation/ID/response"),
    of_runtime("GET", "nowhere"),
    ["GET", "/nowhere", {}, ""],
    registration(""),
    *(registration("late", body) for body in ('{"events": []}', "{", '{"events": ["COFFEE"]}')),
    *(of_extension("GET", "event/next", one) for one in (None, "x", "00000000-0000-0000-0000-000000000000")),
    of_extension("POST", "exit/error"),
    of_extension("POST", "init/error", "x", "Extension.Tired"),
    of_extension("GET", "exit/error"),
]
ANSWERED = [
    of_runtime("POST", "invocation/ID/response"),
    of_runtime("POST", "invocation/ID/response"),
    of_runtime("POST", "invocation/ID/error"),
    of_runtime("POST", "invocation/x/response"),
    of_runtime("POST", "init/error"),
]


def answer_to(line: list[Any], request_id: str) -> Any:
    """A recorded answer. The emulator's text about malformed JSON is its parser's and is left out."""
    status, content, body = line
    body = body.replace(request_id, "ID")
    if content == "application/json":
        body = json.loads(body)
        if isinstance(body, dict) and body.get("errorType") == "InvalidRequestFormat":
            del body["errorMessage"]
    return status, content, body


def test_every_request_has_the_same_answer(tmp_path: Path) -> None:
    """The API accepts the same requests, and refuses early, misdirected and malformed requests in the same way."""
    with Both("api_requests", tmp_path, env={"AT_INIT": json.dumps(AT_INIT)}) as both:
        ours, theirs = both.invoke(WHILE_AT_WORK + ANSWERED)
        assert said(ours) == said(theirs) == {}
        noted = both.lines_of("answers")
    requests = AT_INIT + WHILE_AT_WORK + ANSWERED
    assert len(noted[0]) == len(noted[1]) == len(requests)
    for request, one, another in zip(requests, *noted, strict=True):
        assert (request, answer_to(one, ours.request_id)) == (request, answer_to(another, theirs.request_id))


def test_registrations_are_refused_in_the_same_words(tmp_path: Path) -> None:
    """Duplicate names, excess extensions and second registrations are refused in the same words."""
    attempts = [(name, '{"events": []}') for name in "aabcdefghijka"]
    with Both("sandbox_extension", tmp_path, env={"ATTEMPTS": json.dumps(attempts)}) as both:
        ours, theirs = ([told[:2] for told in result.payload] for result in both.invoke("attempts"))
        assert ours == theirs
        assert [status for status, _ in ours] == [200, 403, *[200] * 9, *[403] * 2]
    with Both("sandbox_extension", tmp_path, env={"EVENTS": "[]"}) as both:
        ours, theirs = ([told[0], re.sub("[0-9a-f-]{36}", "ID", told[1]["errorMessage"]), told[1]["errorType"]]
                        for told in (result.payload for result in both.invoke("next twice")))
        assert ours == theirs


# Extensions, and the end


def test_extensions_get_the_same_events(tmp_path: Path) -> None:
    """Internal and external extensions get the same events in the same order, through a timeout, a death and a
    shutdown. A function that exits on SIGTERM is not killed."""
    needs_opt()
    env = {"EVENTS": '["INVOKE"]', "ON_SIGTERM": "exit"}
    with Both("sandbox_extension", tmp_path, env=env, opt=LAYER, timeout=4) as both:
        results = {way: both.invoke(way) for way in ("tell", "dawdle", "exit", "nothing")}
        for ours_or_theirs in results["tell"]:
            told = ours_or_theirs.payload
            event = {key: value for key, value in told["event"].items() if key != "tracing"}
            assert [{key: one[key] for key in event} for one, _ in told["events"]] == [event]
            assert event["requestId"] == ours_or_theirs.request_id
        assert results["dawdle"][0].payload in str(results["dawdle"][1].payload)
        assert said(results["exit"][0]) == said(results["exit"][1])
        both.emulator.shut_down()
        both.sandbox.shutdown()
        noted = both.lines_of("watched")
        assert both.sandbox.exit_status == 5
    heard = [[kind(each) for each in lines] for lines in noted]
    assert heard[0] == heard[1]
    assert [each[1] for each in heard[0]] == [
        "registered", None, None, "timeout", "registered", None, "failure", "registered", None, "spindown",
    ]


def kind(noted: dict[str, Any]) -> tuple[list[Any], str | None]:
    """The keys of an event, without values that differ from event to event."""
    if "registered" in noted:
        return sorted(noted["registered"].items()), "registered"
    reason = noted.get("shutdownReason")
    return sorted(noted), reason and SHUTDOWN_REASONS.get(reason, reason)


@pytest.mark.parametrize(
    ("events", "on_sigterm", "killed", "at_once"),
    [('["INVOKE"]', "ignore", True, False), ("[]", "exit", False, True), (None, "exit", True, True)],
)
def test_sigterm_precedes_a_timeout_with_extensions_only(
    tmp_path: Path, events: str | None, on_sigterm: str, killed: bool, at_once: bool
) -> None:
    """A function that times out gets SIGTERM and a grace period if an extension is registered, else SIGKILL at once."""
    env = {"ON_SIGTERM": on_sigterm, **({} if events is None else {"EVENTS": events})}
    with Both("sandbox_extension", tmp_path, env=env, timeout=1) as both:
        both.invoke("nothing")
        ours, theirs = both.invoke("dawdle")
        log = until(lambda: "END RequestId: " + ours.request_id in both.emulator.log and both.emulator.log)
        assert ("Sending SIGKILL" in log) is killed
        assert theirs.exit_status == (-9 if killed else 5)
        assert (ours.seconds < 1.5) is at_once
