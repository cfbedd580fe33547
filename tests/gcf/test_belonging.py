"""The trace of a call: its caller's, its own, or that of the request that the middleware has opened."""

from __future__ import annotations

from typing import Any

import braintrust
import pytest
from gcf_client import AsgiClient, root_of
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from support import PROJECT_ID

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import AsyncGuardMiddleware, guard_handler

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
ADOPTED = {"traceparent": TRACEPARENT, "baggage": f"braintrust.parent=project_id%3A{PROJECT_ID}"}
EVENT = {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": "order.placed", "ce-source": "//shop"}


PLAIN = "@functions_framework.http\n@guard_handler\ndef"
ON_LOOP = "@functions_framework.aio.http\n@guard_handler\nasync def"


@pytest.mark.parametrize("kind", [PLAIN, ON_LOOP], ids=["plain", "async"])
def test_a_parent_in_braintrust_is_adopted(serve: Any, backend: MemoryBackend, kind: str) -> None:
    """A traceparent with braintrust.parent in its baggage makes a request part of its caller's trace."""
    serve(f"{kind} main(request):\n    return 'x'").get("/", headers=ADOPTED)
    row = root_of(backend)
    assert (row["root_span_id"], row["span_parents"]) == (TRACE, [SPAN])


def test_a_foreign_trace_is_metadata(serve: Any, backend: MemoryBackend) -> None:
    """The platform's own trace context becomes metadata and not the parent, because Braintrust has no such span."""
    headers = {"traceparent": TRACEPARENT, "X-Cloud-Trace-Context": f"{TRACE}/1;o=1", "Function-Execution-Id": "x7"}
    serve(f"{PLAIN} main(request):\n    return 'x'").get("/", headers=headers)
    row = root_of(backend)
    assert row["span_parents"] is None
    kept = {key: row["metadata"][key] for key in ("traceparent", "gcp.cloud_trace_context", "faas.invocation_id")}
    assert kept == {
        "traceparent": TRACEPARENT, "gcp.cloud_trace_context": f"{TRACE}/1;o=1", "faas.invocation_id": "x7",
    }


@pytest.mark.parametrize("decorator", ["functions_framework", "functions_framework.aio"])
def test_an_event_carries_its_parent(serve: Any, backend: MemoryBackend, decorator: str) -> None:
    """A CloudEvent with the distributed tracing extension belongs to its producer's trace and has the execution id
    of its request."""
    client = serve(f"@{decorator}.cloud_event\n@guard_handler\ndef main(event):\n    pass")
    carried = {f"ce-{name}": value for name, value in ADOPTED.items()}
    client.post("/", json={}, headers={**EVENT, **carried, "Function-Execution-Id": "x7"})
    row = root_of(backend)
    assert (row["root_span_id"], row["span_parents"]) == (TRACE, [SPAN])
    assert row["metadata"]["faas.invocation_id"] == "x7"


def test_calls_within_a_call_belong_to_it(guard: Guard, backend: MemoryBackend) -> None:
    """A guarded function that another guarded function or an invocation of user code calls opens no root and does
    not change that root."""

    @guard_handler
    def inner(request: Any) -> str:
        with braintrust.start_span("step"):
            return "inner"

    @guard_handler(name="outer")
    def outer(request: Any) -> str:
        return inner({"other": "request"})

    assert outer({"n": 1}) == "inner"
    with guard.invocation("job", input="of the job") as invocation:
        inner(None)
        invocation.set_output("of the job")
    rows = [(row["span_attributes"]["name"], row.get("input"), row.get("output")) for row in backend.rows()]
    step = ("step", None, None)
    assert sorted(rows, key=str) == sorted(
        [("outer", {"n": 1}, "inner"), step, ("job", "of the job", "of the job"), step], key=str
    )


def test_under_the_middleware_it_describes_the_request(serve: Any, backend: MemoryBackend) -> None:
    """Under the middleware there is one root, to which the function adds its name, input, output and metadata."""
    client = serve("""
        from trace_guard_gcf import GuardMiddleware
        flask.current_app.wsgi_app = GuardMiddleware(flask.current_app.wsgi_app)

        @functions_framework.cloud_event
        @guard_handler(tags=["shop"], metadata={"team": "orders"})
        def main(event):
            return {"n": 2}
    """)
    assert client.post("/", json={"n": 1}, headers=EVENT).status_code == 200
    row = root_of(backend)
    assert (row["span_attributes"]["name"], row["tags"]) == ("order.placed process", ["shop"])
    assert row["input"] == {"method": "POST", "path": "/", "query": {}, "event": {"n": 1}}
    assert row["output"] == {"n": 2}
    found = {key: row["metadata"][key] for key in ("cloudevents.event_id", "team", "http.response.status_code")}
    assert found == {"cloudevents.event_id": "e1", "team": "orders", "http.response.status_code": 200}


@pytest.mark.parametrize("name", [None, "ask"])
def test_a_view_under_the_middleware_may_have_a_name(backend: MemoryBackend, guard: Guard, name: str | None) -> None:
    """A function of a Starlette app adds body and response to its request's root, and renames it if it has a name."""

    @guard_handler(name=name)
    async def ask(request: Any) -> Any:
        return JSONResponse({"n": (await request.json())["n"] + 1})

    app = Starlette(routes=[Route("/ask/{id}", ask, methods=["POST"])])
    assert AsgiClient(AsyncGuardMiddleware(app)).post("/ask/1", json={"n": 1}).json() == {"n": 2}
    row = root_of(backend)
    assert row["span_attributes"]["name"] == (name or "POST /ask/{id}")
    assert row["input"] == {"method": "POST", "path": "/ask/1", "query": {}, "body": {"n": 1}}
    assert row["output"] == {"status_code": 200, "body": {"n": 2}}
