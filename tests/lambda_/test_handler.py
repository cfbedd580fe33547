"""The decorator in this process: odd contexts, odd events, and its forms."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any
from unittest import mock

import braintrust
import pytest

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard_lambda import guard_handler


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Any) -> Any:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close()


class Raises:
    """A context each of whose attributes raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Wrong:
    """A context whose attributes have other types than Lambda's."""

    aws_request_id = 7
    function_name = None
    function_version = b"1"
    invoked_function_arn = object()
    memory_limit_in_mb = "plenty"
    log_stream_name = 5.5

    def get_remaining_time_in_millis(self) -> Any:
        return "soon"


class NoTime:
    """A context of a local tool, with no time left."""

    def get_remaining_time_in_millis(self) -> int:
        return 0


CONTEXTS = [None, Raises(), Wrong(), NoTime(), {}, 5, mock.MagicMock()]


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: type(context).__name__)
def test_odd_contexts_do_no_harm(
    guard: Guard, backend: MemoryBackend, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Any context reaches the handler unchanged, and the trace is closed and delivered."""

    @guard_handler(guard=guard)
    def handler(event: Any, context: Any) -> Any:
        return context

    with caplog.at_level(logging.CRITICAL):
        assert handler({}, context) is context
        caplog.clear()
    (row,) = backend.rows()
    assert row["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert row["metrics"]["end"] >= row["metrics"]["start"]


@pytest.mark.parametrize("event", [None, 0, "", [], b"bytes", object(), {"a": {1: {2: object()}}}, float("nan")])
def test_odd_events_do_no_harm(guard: Guard, backend: MemoryBackend, event: Any) -> None:
    """Any event reaches the handler unchanged, and the result reaches the caller."""

    @guard_handler(guard=guard)
    def handler(event: Any, context: Any) -> Any:
        return event

    assert handler(event, None) is event
    assert [row["metadata"]["trace_guard"] for row in backend.rows()] == [{"outcome": "ok"}]


def test_arguments_may_be_passed_by_name(guard: Guard, backend: MemoryBackend) -> None:
    """A handler that is called with keywords, as in unit tests, is guarded too."""

    @guard_handler(guard=guard)
    def handler(event: Any, context: Any = None) -> Any:
        return event["n"]

    assert handler(event={"n": 5}) == 5
    assert [row["input"] for row in backend.rows()] == [{"n": 5}]


def test_the_wrapper_looks_like_the_handler(guard: Guard) -> None:
    """The guarded handler keeps name, documentation and signature. An async handler becomes plain."""

    def handler(event: dict[str, int], context: object, *, extra: int = 1) -> int:
        """Say what."""
        return 1

    async def slow(event: object, context: object) -> int:
        return 2

    guarded = guard_handler(guard=guard)(handler)
    assert (guarded.__name__, guarded.__doc__) == ("handler", "Say what.")
    assert inspect.signature(guarded) == inspect.signature(handler)
    plain = guard_handler(guard=guard)(slow)
    assert not inspect.iscoroutinefunction(plain)
    assert plain({}, None) == 2
    asyncio.get_event_loop_policy().get_event_loop().close()


def test_a_bad_keyword_shows_at_import(guard: Guard) -> None:
    """An invalid keyword value raises where the function is decorated."""
    with pytest.raises(SettingsError, match="flush='sometimes' is not accepted"):
        guard_handler(guard=guard, flush="sometimes")(lambda event, context: None)


def test_keywords_hold_for_their_handler_only(guard: Guard, backend: MemoryBackend) -> None:
    """Project and capture settings of a handler apply to it only, with the same journal and courier."""

    @guard_handler(guard=guard, project="other", capture_input=False, capture_output=False)
    def quiet(event: Any, context: Any) -> int:
        return 1

    @guard_handler(guard=guard)
    def open_(event: Any, context: Any) -> int:
        return 2

    quiet({"n": 1}, None)
    open_({"n": 2}, None)
    found = [(row["project_id"], row.get("input"), row.get("output")) for row in backend.rows()]
    assert found == [("other", None, None), ("p", {"n": 2}, 2)]


def test_a_disabled_guard_wraps_nothing(backend: MemoryBackend, directory: Any) -> None:
    """With TRACE_GUARD_DISABLED, a plain handler is returned unchanged and an async one still runs."""
    guard = Guard(backend=backend, dir=directory, disabled=True)

    def handler(event: Any, context: Any) -> int:
        return 1

    async def slow(event: Any, context: Any) -> int:
        return 2

    assert guard_handler(guard=guard)(handler) is handler
    plain = guard_handler(guard=guard)(slow)
    assert plain({}, None) == 2
    asyncio.get_event_loop_policy().get_event_loop().close()
    assert (backend.rows(), directory.exists()) == ([], False)


def test_wrapped_twice_it_opens_one_root(guard: Guard, backend: MemoryBackend) -> None:
    """A handler that is decorated twice has one root with the user's spans below."""

    @guard_handler(guard=guard)
    @guard_handler(guard=guard)
    def handler(event: Any, context: Any) -> None:
        with braintrust.start_span("inner"):
            pass

    handler({}, None)
    parents = {row["span_attributes"]["name"]: row["span_parents"] for row in backend.rows()}
    assert set(parents) == {"lambda", "inner"}
    assert parents["lambda"] is None
