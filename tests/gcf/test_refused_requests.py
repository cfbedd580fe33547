"""Requests that the framework's own code fails with, before or after a guarded function."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gcf_client import root_of

from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import GuardMiddleware

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated")  # the framework's own calls

TYPED = """
class Order:
    def __init__(self, item):
        self.item = item
    @staticmethod
    def from_dict(fields):
        return Order(fields["item"])
    def to_dict(self):
        return dict(item=self.item)

{first}
{second}
def main(order: Order):
    return {result}
"""
BELOW = {"first": "@functions_framework.typed(Order)", "second": "@guard_handler"}
ABOVE = {"first": "@guard_handler", "second": "@functions_framework.typed"}
EVENT = "{first}\n{second}\ndef main(event):\n    pass"
EVENT_BELOW = {"first": "@functions_framework.cloud_event", "second": "@guard_handler"}
EVENT_ABOVE = {"first": "@guard_handler", "second": "@functions_framework.cloud_event"}
AIO = "@functions_framework.aio.cloud_event\n@guard_handler\nasync def main(event):\n    pass"
AIO_SYNC = "@functions_framework.aio.cloud_event\n@guard_handler\ndef main(event):\n    pass"
BACKGROUND = "@guard_handler\ndef main(data, context):\n    pass"
# The framework's answers quote all headers, and it makes an id for a request without one.
JSON = {"content-type": "application/json", "function-execution-id": "e1"}

# Code, signature type, body, headers, the status of the answer, and a part of the error.
REFUSED = {
    "typed, no JSON": (TYPED.format(**BELOW, result="order"), None, "{", JSON, 500, "FunctionsFrameworkException"),
    "typed, guard above": (TYPED.format(**ABOVE, result="order"), None, "{", JSON, 500, "FunctionsFrameworkException"),
    "typed, missing field": (TYPED.format(**BELOW, result="order"), None, "{}", JSON, 500, "KeyError: 'item'"),
    "typed, wrong shape": (TYPED.format(**BELOW, result="order"), None, "[1]", JSON, 500, "TypeError"),
    "event, no JSON": (EVENT.format(**EVENT_BELOW), None, "{", JSON, 400, "BadRequest"),
    "event, guard above": (EVENT.format(**EVENT_ABOVE), None, "{", JSON, 400, "BadRequest"),
    "event, no attributes": (EVENT.format(**EVENT_BELOW), None, '{"n": 1}', JSON, 400, "MissingRequiredFields"),
    "event on the loop": (AIO, None, "{", JSON, 400, "HTTPException"),
    "event on a thread": (AIO_SYNC, None, '{"n": 1}', JSON, 400, "MissingRequiredFields"),
    "background, no event": (BACKGROUND, "event", "[1]", JSON, 500, "TypeError"),
    "background, nothing": (BACKGROUND, "event", "", JSON, 400, "BadRequest"),
}


def send(client: Any, body: str, headers: dict[str, str]) -> tuple[int, str]:
    if hasattr(client, "application"):
        client.application.config["PROPAGATE_EXCEPTIONS"] = False
    answer = client.post("/orders?q=1", data=body, headers=headers)
    return answer.status_code, answer.text


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_never_reaches_the_function(serve: Any, backend: MemoryBackend, case: str) -> None:
    """A request that the framework can't make an argument of gets the framework's answer, and a root with the error."""
    code, signature_type, body, headers, status, error = REFUSED[case]
    plain = send(serve(code.replace("@guard_handler\n", ""), signature_type), body, headers)
    assert backend.rows() == []
    assert send(serve(code, signature_type), body, headers) == plain
    assert plain[0] == status
    row = root_of(backend)
    assert row["span_attributes"]["name"] == "POST main"
    assert error in row["error"]
    assert "trace_guard" not in row["error"]
    assert row["metadata"]["http.response.status_code"] == status
    assert row["metadata"]["faas.trigger"] == "http"
    assert row["metadata"]["trace_guard"] == {"outcome": "error"}
    assert (row["input"]["method"], row["input"]["path"], row["input"]["query"]) == ("POST", "/orders", {"q": "1"})


def test_excluded_requests_that_never_reach_the_function(serve: Any, backend: MemoryBackend) -> None:
    """A malformed request to an excluded path has no trace."""
    code = TYPED.format(**BELOW, result="order").replace("@guard_handler", "@guard_handler(exclude='/orders')")
    assert send(serve(code), "{", JSON)[0] == 500
    assert backend.rows() == []


def test_a_middleware_traces_the_request_itself(serve: Any, backend: MemoryBackend) -> None:
    """Under the middleware a malformed request has the middleware's root only, with the error of its 500."""
    client = serve(TYPED.format(**BELOW, result="order"))
    client.application.wsgi_app = GuardMiddleware(client.application.wsgi_app)
    assert send(client, "{", JSON)[0] == 500
    row = root_of(backend)
    assert row["span_attributes"]["name"] == "POST /orders"
    assert "FunctionsFrameworkException" in row["error"]


def test_an_error_of_the_function_is_traced_once(serve: Any, backend: MemoryBackend) -> None:
    """A typed function that raises has one root, that of its call."""
    assert send(serve(TYPED.format(**BELOW, result="1 / 0")), '{"item": "tea"}', JSON)[0] == 500
    row = root_of(backend)
    assert "ZeroDivisionError" in row["error"]
    assert row["input"]["body"] == {"item": "tea"}


TYPED_RESULTS: dict[str, tuple[str, Any, str | None]] = {
    "an object": ("order", {"item": "tea"}, None),
    "a dict": ("{'a': 1}", {"a": 1}, None),
    "nothing": ("None", None, None),
    "no to_dict": ("object.__new__(type('Bare', (), {'__module__': 'shop'}))", None, "Bare, which has no method"),
    "a number": ("5", None, "int, which is no response"),
    "no JSON": ("Order({1, 2})", None, "the result can't be encoded: TypeError"),
}


@pytest.mark.parametrize("case", TYPED_RESULTS)
def test_results_of_typed_functions(serve: Any, backend: MemoryBackend, case: str) -> None:
    """A typed result that the framework refuses makes the root an error; any other is the output, as it is sent."""
    result, output, error = TYPED_RESULTS[case]
    status, text = send(serve(TYPED.format(**BELOW, result=result)), '{"item": "tea"}', JSON)
    row = root_of(backend)
    assert status == row["metadata"]["http.response.status_code"] == (500 if error else 200)
    assert row.get("output") == output
    assert (error or "None") in str(row.get("error"))
    assert output is None or json.loads(text) == output
