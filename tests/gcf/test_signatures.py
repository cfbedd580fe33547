"""Every kind of function in every order of decorators, and unsuitable objects."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from support import Program

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import guard_handler

pytestmark = pytest.mark.filterwarnings("ignore:is_binary is deprecated")  # the framework itself uses it this way

EVENT = {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": "order.placed", "ce-source": "//shop"}
BACKGROUND = {"context": {"eventId": "e1", "eventType": "order.placed", "resource": "shop"}, "data": {"n": 1}}

HTTP = "def main(request):\n    return {'n': 1}"
ON_EVENT = "def main(event):\n    assert event.data == {'n': 1}"
TYPED = """
class Order:
    from_dict = classmethod(lambda cls, found: cls())
    def to_dict(self):
        return {"n": 1}
DECORATORS
def main(order: Order):
    assert type(order) is Order
    return order
"""

KINDS = {
    "http": ("@functions_framework.http", HTTP, "POST main"),
    "cloud event": ("@functions_framework.cloud_event", ON_EVENT, "order.placed process"),
    "typed": ("@functions_framework.typed", TYPED, "POST main"),
    "typed by name": ("@functions_framework.typed(Order)", TYPED.replace(": Order", ""), "POST main"),
    "async http": ("@functions_framework.aio.http", "async " + HTTP, "POST main"),
    "async cloud event": ("@functions_framework.aio.cloud_event", "async " + ON_EVENT, "order.placed process"),
    "http in a thread": ("@functions_framework.aio.http", HTTP, "POST main"),
    "cloud event in a thread": ("@functions_framework.aio.cloud_event", ON_EVENT, "order.placed process"),
}


def module(decorators: str, function: str) -> str:
    return function.replace("DECORATORS", decorators) if "DECORATORS" in function else f"{decorators}\n{function}"


@pytest.mark.parametrize("order", ["below", "above", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_each_order(serve: Any, backend: MemoryBackend, kind: str, order: str) -> None:
    """A function of any kind is called as without a guard and has one root, wherever the guard is."""
    decorator, function, name = KINDS[kind]
    lines = {"below": [decorator, "@guard_handler"], "above": ["@guard_handler", decorator],
             "both": ["@guard_handler", decorator, "@guard_handler"]}
    client = serve(module("\n".join(lines[order]), function))
    response = client.post("/", json={"n": 1}, headers=EVENT if "event" in kind else {})
    assert response.status_code == 200
    (row,) = backend.rows()
    assert row["span_attributes"]["name"] == name
    assert row["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert row.get("output") == (None if "event" in kind else {"n": 1})
    # In a thread beside the event loop, neither the function nor the guard can read a body.
    body = {} if kind == "http in a thread" else {"body": {"n": 1}}
    assert row["input"] == ({"n": 1} if "event" in kind else {"method": "POST", "path": "/", **body})


def test_the_kind_follows_from_the_arguments(serve: Any, backend: MemoryBackend) -> None:
    """The kind of a function without a decorator of the framework follows from its arguments."""
    client = serve("@guard_handler\ndef main(data, context):\n    assert data == {'n': 1}", "event")
    assert client.post("/", json=BACKGROUND).status_code == 200
    (row,) = backend.rows()
    assert (row["span_attributes"]["name"], row["input"]) == ("order.placed process", {"n": 1})


@pytest.mark.parametrize("decorator", ["http", "cloud_event"])
def test_an_unawaited_coroutine_is_refused_at_import(serve: Any, decorator: str) -> None:
    """A coroutine function below a plain decorator of the framework would never run. It is refused, and the message
    names the right decorator."""
    with pytest.raises(TypeError, match=r"main is a coroutine function .* use functions_framework\.aio\.http"):
        serve(f"@guard_handler\n@functions_framework.{decorator}\nasync def main(request):\n    return 'x'")


def test_an_unawaited_coroutine_is_reported_at_the_fork(directory: Any) -> None:
    """If the guard can't see the framework's decorator, the error is reported once when the server forks its
    workers. A correct registration is not reported."""
    code = """
        import functions_framework, functions_framework.aio
        from trace_guard_gcf import guard_handler

        @functions_framework.cloud_event
        @guard_handler
        async def lost(event): ...

        @functions_framework.aio.cloud_event
        @guard_handler
        async def found(event): ...

        for _ in range(2):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        say("done")
        os._exit(0)
    """
    with Program(code, {"TRACE_GUARD_DIR": str(directory)}) as program:
        program.expects("done")
        program.wait()
    assert program.stderr.count("lost is a coroutine function below a decorator") == 1
    assert "found is" not in program.stderr


class Callable_:
    """A callable that is not a function."""

    def __call__(self, request: Any) -> str:
        return "x"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Callable_(), "accepts functions only"),
        (Callable_, "accepts functions only"),
        (functools.partial(lambda request, n: "x", n=1), "accepts functions only"),
        ("support-bot", "used bare or with keywords"),
    ],
    ids=["object", "class", "partial", "text"],
)
def test_unsuitable_objects_are_refused(guard: Guard, target: Any, says: str) -> None:
    """An object that is not a function is refused where it is decorated, with a message that says what to do."""
    with pytest.raises(TypeError, match=says):
        guard_handler(target)


def test_a_plain_wrapper_that_awaits_is_fine(guard: Guard, backend: MemoryBackend) -> None:
    """A plain function that runs a coroutine function itself is guarded as a plain function."""

    async def slow(request: Any) -> str:
        return "x"

    @functools.wraps(slow)
    def main(request: Any) -> str:
        with pytest.raises(StopIteration) as stopped:
            slow(request).send(None)
        return str(stopped.value.value)

    assert guard_handler(main)(None) == "x"
    assert len(backend.rows()) == 1


def test_the_wrapper_looks_like_the_function(guard: Guard) -> None:
    """The guarded function keeps name, documentation, signature, attributes and kind."""

    def main(request: dict[str, int], *, extra: int = 1) -> int:
        """Say what."""
        return 1

    async def slow(request: object) -> int:
        return 2

    main.mark = 5  # type: ignore[attr-defined]
    wrapped = guard_handler(guard=guard)(main)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.mark) == ("main", "Say what.", 5)  # type: ignore[attr-defined]
    assert inspect.signature(wrapped) == inspect.signature(main)
    assert inspect.isfunction(wrapped)
    assert not inspect.iscoroutinefunction(wrapped)
    assert inspect.iscoroutinefunction(guard_handler(slow))
