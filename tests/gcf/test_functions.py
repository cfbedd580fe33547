"""The end of guarded functions, their configuration, and odd inputs and faults."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any
from unittest import mock

import braintrust
import pytest
from support import until

import trace_guard
import trace_guard_gcf
from trace_guard import Delivery, Guard, SettingsError, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.http import call as http_call
from trace_guard.testing import BraintrustServer
from trace_guard_gcf import GuardMiddleware, call, guard_handler

# The end of a function


def test_the_platform_s_timeout_is_its_deadline(
    guard: Guard, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that runs past the request timeout is closed as timed out shortly before, while it is still
    running."""
    monkeypatch.setenv("CLOUD_RUN_TIMEOUT_SECONDS", "0.5")
    go_on = threading.Event()

    @guard_handler
    def main(request: Any) -> str:
        with braintrust.start_span("slow"):
            assert go_on.wait(20)
        return "late"

    thread = threading.Thread(target=main, args=(None,))
    thread.start()

    def ended() -> dict[str, str]:
        return {
            row["span_attributes"]["name"]: row["metadata"]["trace_guard"]["outcome"] for row in backend.rows()
            if "end" in row["metrics"]
        }

    found = until(lambda: len(ended()) == 2 and ended())
    go_on.set()
    thread.join()
    assert found == {"main": "timed_out", "slow": "timed_out"}


@pytest.mark.parametrize(("flush", "verdict"), [(None, Delivery.DELIVERED), ("after-response", Delivery.DEFERRED)])
def test_the_response_waits_for_delivery_by_default(
    server: BraintrustServer, make_guard: Any, monkeypatch: pytest.MonkeyPatch, flush: Any, verdict: Any
) -> None:
    """By default a trace is delivered before the function returns. It is delivered after the response only on
    request."""
    monkeypatch.setattr(trace_guard.guard, "_default", make_guard())
    seen: list[Any] = []
    guard_handler(flush=flush)(lambda request: seen.append(current_invocation()))(None)
    assert seen[0].delivery.verdict is verdict
    assert bool(server.span_rows()) == (verdict is Delivery.DELIVERED)
    until(server.span_rows)


# Configuration


def test_keywords_hold_for_their_function_only(guard: Guard, backend: MemoryBackend) -> None:
    """Project, capture settings, name, tags and metadata apply only to the function that they are given to."""

    @guard_handler(project="other", capture_input=False, capture_output=False, name="quiet", tags=["t"],
                   metadata={"m": 1})
    def quiet(request: Any) -> int:
        return 1

    @guard_handler
    def open_(request: Any) -> int:
        return 2

    quiet({"n": 1})
    open_({"n": 2})
    first, second = backend.rows()
    assert (first["project_id"], first["span_attributes"]["name"], first["tags"]) == ("other", "quiet", ["t"])
    assert ("input" in first, "output" in first, first["metadata"]["m"]) == (False, False, 1)
    assert (second["project_id"], second["input"], second["output"]) == ("p", {"n": 2}, 2)


def test_a_bad_keyword_shows_at_import(guard: Guard) -> None:
    """An invalid keyword value raises where the function is decorated."""
    with pytest.raises(SettingsError, match="flush='sometimes' is not accepted"):
        guard_handler(flush="sometimes")(lambda request: None)


def test_a_bad_variable_leaves_the_function_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid variable is reported, and the function is served unguarded."""
    monkeypatch.setattr(trace_guard.guard, "_default", None)
    monkeypatch.setenv("TRACE_GUARD_FLUSH_TIMEOUT", "soon")

    def main(request: Any) -> int:
        return 1

    assert guard_handler(main) is main


def test_a_disabled_guard_wraps_nothing(backend: MemoryBackend, directory: Any) -> None:
    """With TRACE_GUARD_DISABLED, the function is returned unchanged and nothing is written."""
    guard = Guard(backend=backend, dir=directory, disabled=True)

    def main(request: Any) -> int:
        return 1

    assert guard_handler(guard=guard)(main) is main
    assert (backend.rows(), directory.exists()) == ([], False)


# Odd inputs and faults


class Raises:
    """An object each of whose attributes raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


ODD = [None, 5, "text", {}, Raises(), mock.MagicMock(), object()]


@pytest.mark.parametrize("request_", ODD, ids=lambda request: type(request).__name__)
def test_odd_requests_do_no_harm(
    guard: Guard, backend: MemoryBackend, request_: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Any argument reaches the function unchanged, and the trace is closed and delivered."""

    @guard_handler
    def main(request: Any, *more: Any) -> Any:
        return request

    with caplog.at_level(logging.CRITICAL):
        assert main(request_) is request_
        assert main(request=request_) is request_
        assert main(request_, request_) is request_
        caplog.clear()
    assert [row["metadata"]["trace_guard"] for row in backend.rows()] == [{"outcome": "ok"}] * 3


STEPS = [
    (call.environment, "facts"), (call.environment, "deadline"), (call, "kind_of"), (call, "facts_of_request"),
    (call, "carrier_of"), (call, "current_invocation"), (call.content, "input_of"), (call.content, "read"),
    (call.answers, "status_of"), (call.answers, "output_of"), (call.answers, "status_of_error"),
    (call.answers, "streams"), (http_call, "guard_result"), (call, "request_among"), (call, "prepare_for_shutdown"),
]


@pytest.mark.parametrize(("module", "step"), STEPS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_fault_of_ours_changes_nothing(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, module: Any, step: str
) -> None:
    """If any of our steps fails, the function runs once, and its response or exception is unchanged."""
    client = serve("""
        calls = []
        @functions_framework.http
        @guard_handler
        def main(request):
            calls.append(request.path)
            if request.path == "/fail":
                flask.abort(409)
            return request.get_json()
    """)

    def fault(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, step, fault)
    with caplog.at_level(logging.CRITICAL):
        assert client.post("/", json={"n": 1}).get_json() == {"n": 1}
        assert client.post("/fail", json={"n": 1}).status_code == 409
        caplog.clear()
    assert sys.modules["main"].calls == ["/", "/fail"]  # type: ignore[attr-defined]
    assert current_invocation() is None


def test_the_package_exports_the_middleware() -> None:
    """The package exports the middleware of both protocols beside the decorator."""
    assert trace_guard_gcf.__all__ == ["AsyncGuardMiddleware", "GuardMiddleware", "guard_handler", "propagate"]
    assert GuardMiddleware is trace_guard_gcf.middleware.GuardMiddleware
