"""Whatever a platform hands to a function, the guard makes no difference to the function, and closes one trace."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azure.functions as func
from azure.functions.kafka import KafkaEvent
from azure.functions.meta import Datum
from clearing_backend import ClearingBackend
from cloudevents.http import CloudEvent
from flask import Flask
from fuzzer import Fuzzer
from hypothesis import strategies as st
from values import json_values, keys, objects, texts

import trace_guard_azure
import trace_guard_gcf
import trace_guard_lambda
from trace_guard import Guard, Settings, SettingsError
from trace_guard import contain as containment
from trace_guard.supervisor.exported import ExportedSpan

EVENTS = Path(__file__).parent.parent / "lambda_" / "events"
RECORDED = {path.stem: path.read_text() for path in sorted(EVENTS.glob("*.json"))}
TRACE_CONTEXT = st.fixed_dictionaries({}, optional={
    "traceparent": texts, "baggage": texts | st.just("braintrust.parent=project_name%3Ap"), "tracestate": texts,
})


def guarded(
    guard_handler: Callable[[Any], Any], backend: ClearingBackend, function: Callable[..., Any], *args: Any
) -> None:
    """Guard a function and call it, which must see what it was given and give what it returns, with one trace."""
    seen: list[Any] = []

    def handler(*given: Any) -> Any:
        seen.extend(given)
        return function(*given)

    with containment.raising():
        result = guard_handler(handler)(*args)
    assert [id(one) for one in seen] == [id(one) for one in args]
    assert result is function.__defaults__[0] if function.__defaults__ else True
    rows = backend.take()
    assert [row["metadata"]["trace_guard"]["outcome"] for row in rows] in (["ok"], ["error"])
    assert all("end" in row["metrics"] for row in rows)
    json.dumps(rows, allow_nan=False)


def returning(value: Any) -> Callable[..., Any]:
    def function(*_: Any, value: Any = value) -> Any:
        return value

    return function


# AWS Lambda


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container of an event with every key in it."""
    found = []
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        found.append((node, key))
        if isinstance(value, (dict, list)):
            found += places(value)
    return found


def _changed(name: str, changes: list[tuple[int, Any]]) -> Any:
    event = json.loads(RECORDED[name])
    for at, value in changes:
        known = places(event)
        if known:
            node, key = known[at % len(known)]
            node[key] = value
    return event


lambda_events = objects | st.builds(
    _changed, st.sampled_from([*RECORDED]), st.lists(st.tuples(st.integers(0, 10_000), json_values), max_size=3)
)


class Context:
    """Lambda's, with odd attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


contexts = st.none() | st.builds(lambda given: Context(**given), st.fixed_dictionaries({}, optional={
    "aws_request_id": json_values, "function_name": json_values, "invoked_function_arn": json_values,
    "client_context": json_values, "identity": json_values, "memory_limit_in_mb": json_values,
    "get_remaining_time_in_millis": st.sampled_from([lambda: 3000, lambda: None, lambda: "x", lambda: float("nan")]),
}))


def test_lambda(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Any event, context and result of a Lambda function."""
    fuzzer.run(
        st.tuples(lambda_events, contexts, objects),
        lambda drawn: guarded(trace_guard_lambda.guard_handler, backend, returning(drawn[2]), drawn[0], drawn[1]),
    )


# Google Cloud


cloud_events = st.builds(
    lambda attributes, data: CloudEvent({"source": "s", "type": "t", **attributes}, data),
    st.dictionaries(st.sampled_from(["id", "source", "type", "subject", "traceparent", "baggage", "x"]), texts),
    json_values | st.builds(
        lambda data, more: {"message": {"data": data, **more}}, json_values, st.dictionaries(keys, json_values)
    ),
)
background = st.builds(
    lambda **given: Context(**given), event_id=json_values, event_type=texts | json_values, resource=json_values,
    timestamp=json_values,
)


def test_cloud_functions(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Any CloudEvent, and any event of the first generation."""
    calls = st.tuples(cloud_events) | st.tuples(json_values, background)
    fuzzer.run(calls, lambda args: guarded(trace_guard_gcf.guard_handler, backend, returning(None), *args))


requests = st.fixed_dictionaries({
    "method": st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "X"]),
    "path": st.text(max_size=20).map(lambda path: f"/{path}"), "query": texts, "body": st.binary() | texts,
    "type": st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "", ";;", "a/b"]),
    "headers": st.dictionaries(st.sampled_from(["traceparent", "baggage", "x-cloud-trace-context", "x"]), texts),
})


def _environ(request: dict[str, Any]) -> dict[str, Any]:
    """What a server would make of it for WSGI: text of latin-1, without line breaks."""
    body = request["body"] if isinstance(request["body"], bytes) else request["body"].encode(errors="replace")

    def header(text: str) -> str:
        return text.encode(errors="replace").decode("latin-1").replace("\r", "").replace("\n", "")

    return {
        "REQUEST_METHOD": request["method"], "SCRIPT_NAME": "", "PATH_INFO": header(request["path"]),
        "QUERY_STRING": header(request["query"]), "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_TYPE": request["type"], "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": header(value) for name, value in request["headers"].items()},
    }


def test_requests(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Any request to an app of WSGI behind the middleware is answered as without it, in one trace at most."""
    app = Flask("app")

    @app.route("/<path:path>", methods=["GET", "POST", "PUT", "OPTIONS"])
    def echo(path: str) -> str:
        return path

    plain = app.wsgi_app
    wrapped: Any = trace_guard_gcf.GuardMiddleware(plain)

    def answer(application: Any, request: dict[str, Any]) -> tuple[str, bytes]:
        statuses: list[str] = []
        body = application(_environ(request), lambda status, headers, error=None: statuses.append(status))
        try:
            return statuses[0], b"".join(body)
        finally:
            with contextlib.suppress(AttributeError):
                body.close()

    def check(request: dict[str, Any]) -> None:
        with containment.raising():
            assert answer(wrapped, request) == answer(plain, request)
        assert all("end" in row["metrics"] for row in backend.take())

    fuzzer.run(requests, check)


# Azure


def _datums(values: dict[str, Any]) -> dict[str, Datum]:
    return {name: Datum(json.dumps(value, default=str), "json") for name, value in values.items()}


TIME = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
metadata = st.dictionaries(
    st.sampled_from([
        "PartitionContext", "Properties", "SystemProperties", "PropertiesArray", "Headers", "HeadersArray",
    ]), json_values,
).map(_datums)
azure_values = st.one_of(
    json_values, st.binary(),
    st.builds(
        lambda method, url, headers, params, body: func.HttpRequest(
            method, url, headers=headers, params=params, route_params=params, body=body
        ),
        texts, texts, st.dictionaries(st.sampled_from(["Content-Type", "traceparent", "baggage", "x"]), texts),
        st.dictionaries(keys, texts), st.binary(),
    ),
    st.builds(
        lambda body, count: func.queue.QueueMessage(id="m", body=body, dequeue_count=count), texts, st.integers()
    ),
    st.builds(
        lambda body, about, partition: func.EventHubEvent(
            body=body, trigger_metadata=about, enqueued_time=TIME, partition_key=partition, sequence_number=1,
            offset="1",
        ), st.binary(), metadata, texts,
    ),
    st.builds(lambda body, about: KafkaEvent(body=body, trigger_metadata=about), st.binary(), metadata),
    st.builds(
        lambda data, words: func.EventGridEvent(
            id=words, data=data, topic=words, subject=words, event_type=words, event_time=TIME, data_version=words
        ), st.dictionaries(keys, json_values), texts,
    ),
    st.builds(lambda given: Context(**given), st.dictionaries(
        st.sampled_from(["message_id", "body", "application_properties", "delivery_count", "get_body", "past_due"]),
        json_values,
    )),
)


def test_azure(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Any value of a trigger, or a list of some, and any result of a function of Azure Functions."""

    def check(drawn: tuple[Any, Any]) -> None:
        value, result = drawn
        seen = []

        def function(value: Any) -> Any:
            seen.append(value)
            return result

        with containment.raising():
            given = trace_guard_azure.guard_handler(function)(value=value)
        assert given is result
        assert seen[0] is value
        rows = backend.take()
        assert all("end" in row["metrics"] for row in rows)
        json.dumps(rows, allow_nan=False)

    fuzzer.run(st.tuples(azure_values | st.lists(azure_values, max_size=3), objects), check)


# Jobs: their event is their environment


def test_environments(fuzzer: Fuzzer) -> None:
    """Any variable of ours is a setting, or an error that names it; any parent is a span, or is said to be none."""
    variables = st.sampled_from([
        "TRACE_GUARD_PARENT", "TRACE_GUARD_REDACT", "TRACE_GUARD_FLUSH_TIMEOUT", "TRACE_GUARD_RESERVE",
        "TRACE_GUARD_MAX_PAYLOAD_BYTES", "TRACE_GUARD_DIR", "BRAINTRUST_API_URL", "BRAINTRUST_API_KEY",
    ])
    values = texts.filter(lambda text: "\0" not in text)

    def check(drawn: dict[str, str]) -> None:
        with contextlib.suppress(SettingsError):
            Settings.from_env(drawn)
        for text in drawn.values():
            with contextlib.suppress(ValueError):
                ExportedSpan.decode(text)

    fuzzer.run(st.dictionaries(variables, values, min_size=1), check)


