"""trace-guard with Powertools for AWS Lambda: routes, log lines, replayed answers, and decorators in any order."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import braintrust
import pytest
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import (
    ALBResolver,
    APIGatewayHttpResolver,
    APIGatewayRestResolver,
    BedrockAgentResolver,
    CORSConfig,
    LambdaFunctionUrlResolver,
    Response,
    VPCLatticeResolver,
    VPCLatticeV2Resolver,
)
from aws_lambda_powertools.event_handler.exceptions import InternalServerError, NotFoundError
from aws_lambda_powertools.event_handler.router import APIGatewayRouter
from aws_lambda_powertools.logging.buffer import LoggerBufferConfig
from aws_lambda_powertools.utilities.data_classes import SQSEvent, event_source
from aws_lambda_powertools.utilities.idempotency import (
    BasePersistenceLayer,
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from pytest_mock import MockerFixture
from support import REPOSITORY

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard_lambda import guard_handler
from trace_guard_lambda.powertools import GuardMiddleware, inject_trace_context, tag_replays

Handler = Callable[[Any, Any], Any]
numbers = itertools.count()


class Context:
    """The attributes of Lambda's context that Powertools reads."""

    function_name = "tickets"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-central-1:210987654321:function:tickets"
    aws_request_id = "8f7c5e2a"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close()


@pytest.fixture
def guarded(guard: Guard) -> Callable[[Handler], Handler]:
    return guard_handler(guard=guard)


def roots(backend: MemoryBackend) -> list[dict[str, Any]]:
    return sorted(
        (row for row in backend.rows() if not row["span_parents"]), key=lambda row: float(row["metrics"]["start"])
    )


def root_of(backend: MemoryBackend) -> dict[str, Any]:
    (root,) = roots(backend)
    return root


def about(row: dict[str, Any]) -> tuple[Any, ...]:
    """The name, outcome, route and status of a root."""
    metadata = row["metadata"]
    return (
        row["span_attributes"]["name"], metadata["trace_guard"]["outcome"], metadata.get("http.route"),
        metadata.get("http.response.status_code"),
    )


# Routes


def http_event(method: str, path: str) -> dict[str, Any]:
    """An event of an HTTP API."""
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": {},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"}, "isBase64Encoded": False,
    }


def rest_event(method: str, path: str) -> dict[str, Any]:
    return {
        "resource": "/{proxy+}", "path": path, "httpMethod": method, "headers": {}, "multiValueHeaders": {},
        "requestContext": {"stage": "prod", "path": path}, "body": None, "isBase64Encoded": False,
    }


def alb_event(method: str, path: str) -> dict[str, Any]:
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": method, "path": path, "headers": {},
        "queryStringParameters": {}, "body": "", "isBase64Encoded": False,
    }


def lattice_event(method: str, path: str) -> dict[str, Any]:
    return {"raw_path": path, "method": method, "headers": {}, "query_string_parameters": {}, "body": None}


def lattice_v2_event(method: str, path: str) -> dict[str, Any]:
    return {"version": "2.0", "path": path, "method": method, "headers": {}, "requestContext": {}}


def agent_event(method: str, path: str) -> dict[str, Any]:
    """An event of a Bedrock agent, which has the route and its parameters separately."""
    _, route, item_id = path.split("/")
    return {
        "messageVersion": "1.0", "agent": {"name": "a", "id": "i", "alias": "l", "version": "1"},
        "actionGroup": "g", "apiPath": f"/{route}", "httpMethod": method, "inputText": "?",
        "parameters": [{"name": "item_id", "type": "string", "value": item_id}],
        "sessionId": "s", "sessionAttributes": {}, "promptSessionAttributes": {},
    }


RESOLVERS = [
    (APIGatewayRestResolver, rest_event), (APIGatewayHttpResolver, http_event), (ALBResolver, alb_event),
    (LambdaFunctionUrlResolver, http_event), (VPCLatticeResolver, lattice_event),
    (VPCLatticeV2Resolver, lattice_v2_event), (BedrockAgentResolver, agent_event),
]


@pytest.mark.parametrize(("resolver", "make"), RESOLVERS, ids=[resolver.__name__ for resolver, _ in RESOLVERS])
def test_the_root_has_the_routes_name(
    guarded: Any, backend: MemoryBackend, resolver: Any, make: Callable[[str, str], Any]
) -> None:
    """With each event handler of Powertools, the root has the route's template as its name, and the status."""
    app = resolver()
    app.use([GuardMiddleware()])
    rule = "/items" if resolver is BedrockAgentResolver else "/items/<item_id>"

    @app.get(rule, description="Gets an item")
    def item(item_id: str) -> dict[str, str]:
        if item_id == "bad":
            raise LookupError("no shelf")
        return {"id": item_id}

    @app.exception_handler(LookupError)
    def failed(error: LookupError) -> Any:
        return Response(status_code=502, content_type="text/plain", body="gone")

    handler = guarded(lambda event, context: app.resolve(event, context))
    results = [handler(make("GET", f"/items/{item_id}"), Context()) for item_id in ("7", "bad")]
    assert ["502" in json.dumps(result) for result in results] == [False, True]
    assert [about(row) for row in roots(backend)] == [
        (f"GET {rule}", "ok", rule, 200), (f"GET {rule}", "error", rule, 502),
    ]
    error = roots(backend)[1]["error"]
    assert error.startswith("Traceback (most recent call last):")
    assert "in item" in error
    assert error.rstrip().endswith("LookupError: no shelf")


def made_app(**more: Any) -> Any:
    """An app with a route for each kind of answer."""
    app = APIGatewayHttpResolver(**more)
    app.use([GuardMiddleware()])
    router = APIGatewayRouter()

    @router.get("/<number>")
    def order(number: str) -> Any:
        return {"number": number}, 202

    @app.get("/missing")
    def missing() -> Any:
        raise NotFoundError("no such thing")

    @app.get("/refused")
    def refused() -> Any:
        raise ValueError("not so")

    @app.get("/down")
    def down() -> Any:
        raise InternalServerError("down")

    @app.get("/unavailable")
    def unavailable() -> Any:
        return Response(status_code=503, body="later")

    @app.get("/broken")
    def broken() -> Any:
        raise RuntimeError("unhandled")

    @app.exception_handler(ValueError)
    def not_so(error: ValueError) -> Any:
        return Response(status_code=400, body=str(error))

    app.include_router(router, prefix="/orders")
    return app


ANSWERS: dict[str, tuple[tuple[Any, ...], str | None]] = {
    "GET /orders/5": (("GET /orders/<number>", "ok", "/orders/<number>", 202), None),
    "GET /missing": (("GET /missing", "ok", "/missing", 404), None),
    "GET /refused": (("GET /refused", "ok", "/refused", 400), None),
    "GET /down": (("GET /down", "error", "/down", 500), "InternalServerError"),
    "GET /unavailable": (("GET /unavailable", "error", "/unavailable", 503), "HTTP 503"),
}


@pytest.mark.parametrize("request_", ANSWERS)
def test_a_status_of_500_is_an_error(guarded: Any, backend: MemoryBackend, request_: str) -> None:
    """A status of 500 or more is an error with the exception, if any. A lower status is no error, whatever was
    raised."""
    app = made_app()
    guarded(lambda event, context: app.resolve(event, context))(http_event(*request_.split()), Context())
    row, (expected, error) = root_of(backend), ANSWERS[request_]
    assert about(row) == expected
    if error is None:
        assert "error" not in row
    elif error.startswith("HTTP"):
        assert row["error"] == error
    else:
        assert error in row["error"].rstrip().splitlines()[-1]


@pytest.mark.parametrize("request_", ["GET /orders", "GET /nowhere/81524", "OPTIONS /orders/5"])
def test_no_route_no_name(guarded: Any, backend: MemoryBackend, request_: str) -> None:
    """A request without a route, such as a pre-flight request, keeps its root's name, because a path is no name."""
    app = made_app(cors=CORSConfig())
    result = guarded(lambda event, context: app.resolve(event, context))(http_event(*request_.split()), Context())
    name, outcome, route, status = about(root_of(backend))
    assert (result["statusCode"], status) == ((204, 204) if "OPTIONS" in request_ else (404, 404))
    assert (outcome, route) == ("ok", None)
    assert request_.split()[1] not in name


def test_an_unhandled_exception(guarded: Any, backend: MemoryBackend) -> None:
    """An exception without an exception handler reaches Lambda unchanged and is recorded on the root."""
    app = made_app()
    with pytest.raises(RuntimeError, match="unhandled"):
        guarded(lambda event, context: app.resolve(event, context))(http_event("GET", "/broken"), Context())
    row = root_of(backend)
    assert about(row)[:3] == ("GET /broken", "error", "/broken")
    assert row["error"].rstrip().endswith("RuntimeError: unhandled")


def test_debug_mode(guarded: Any, backend: MemoryBackend, capsys: pytest.CaptureFixture[str]) -> None:
    """In debug mode, in which Powertools turns any exception into a 500, the exception is recorded on the root."""
    app = made_app(debug=True)
    result = guarded(lambda event, context: app.resolve(event, context))(http_event("GET", "/broken"), Context())
    assert result["statusCode"] == 500
    assert about(root_of(backend)) == ("GET /broken", "error", "/broken", 500)
    assert root_of(backend)["error"].rstrip().endswith("RuntimeError: unhandled")
    assert "GuardMiddleware" in capsys.readouterr().out


def test_the_handlers_result_decides(guarded: Any, backend: MemoryBackend) -> None:
    """The handler's result decides the status, not the route's answer."""
    app = made_app()

    def handler(event: Any, context: Any) -> Any:
        app.resolve(event, context)
        return {"statusCode": 200}

    for path in ("/unavailable", "/down"):
        guarded(handler)(http_event("GET", path), Context())
    assert [about(row)[1::2] for row in roots(backend)] == [("ok", 200)] * 2


@pytest.mark.parametrize("path", ["/slow/5", "/slow/bad"])
def test_async_routes(guarded: Any, backend: MemoryBackend, path: str) -> None:
    """With ``resolve_async``, the root gets its name and status too, and the route's spans are below it."""
    app = made_app()

    @app.get("/slow/<number>")
    async def slow(number: str) -> Any:
        await asyncio.sleep(0)
        with braintrust.start_span("work"):
            if number == "bad":
                raise InternalServerError("down")
        return {}

    async def handler(event: Any, context: Any) -> Any:
        return await app.resolve_async(event, context)

    run = guarded(handler)
    run(http_event("GET", path), Context())
    asyncio.get_event_loop_policy().get_event_loop().close()
    row = root_of(backend)
    bad = path.endswith("bad")
    outcome, status = ("error", 500) if bad else ("ok", 200)
    assert about(row) == ("GET /slow/<number>", outcome, "/slow/<number>", status)
    (work,) = [one for one in backend.rows() if one["span_attributes"]["name"] == "work"]
    assert work["span_parents"] == [row["span_id"]]


def test_without_a_guard_the_middleware_does_nothing(backend: MemoryBackend) -> None:
    """In an unguarded handler, as in unit tests, an app answers as without the middleware."""
    app = made_app()
    assert app.resolve(http_event("GET", "/orders/5"), Context())["statusCode"] == 202
    assert app.resolve(http_event("GET", "/down"), Context())["statusCode"] == 500
    assert backend.rows() == []


@pytest.mark.parametrize("step", [
    "trace_guard_lambda.powertools.middleware._name_route", "trace_guard_lambda.powertools.middleware._watch",
    "trace_guard_lambda.powertools.middleware._status_of", "trace_guard.runtime.pipeline.Pipeline.defer",
])
def test_our_faults_reach_no_route(
    guarded: Any, backend: MemoryBackend, mocker: MockerFixture, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """If any step of the middleware fails, the route's answer is unchanged and the trace is closed."""
    app = made_app()
    handler = guarded(lambda event, context: app.resolve(event, context))
    patched = mocker.patch(step, side_effect=RuntimeError("a fault of ours"))
    statuses = [handler(http_event("GET", path), Context())["statusCode"] for path in ("/orders/5", "/down")]
    assert (statuses, patched.called) == ([202, 500], True)
    assert ["end" in row["metrics"] for row in backend.rows()] == [True, True]
    caplog.clear()  # the test caused these faults


# Log lines


class Lines(io.StringIO):
    """The output of a logger."""

    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def ids(self) -> dict[str, tuple[Any, Any]]:
        """The ids on each line, by its message."""
        return {
            line["message"]: (line.get("braintrust_trace_id"), line.get("braintrust_span_id"))
            for line in self.read_all()
        }


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logger(lines: Lines) -> Logger:
    return Logger(service=f"service-{next(numbers)}", stream=lines)


@pytest.mark.parametrize("order", ["guard outside", "guard inside"])
@pytest.mark.parametrize("injected", ["before", "after"])
def test_lines_have_the_ids_of_the_current_span(
    guarded: Any, backend: MemoryBackend, logger: Logger, lines: Lines, order: str, injected: str
) -> None:
    """Each line of an invocation, also of a child logger, has the ids of the span that is current where it is
    logged, in any order with ``inject_lambda_context`` and with ``clear_state``. No other line has ids."""
    child = Logger(service=logger.service, child=True)
    if injected == "before":
        assert inject_trace_context(logger) is logger
        inject_trace_context(inject_trace_context(logger))
        inject_trace_context(child)

    def body(event: Any, context: Any) -> None:
        logger.info("in the root")
        with braintrust.start_span("below"):
            child.info("below")
        logger.append_keys(tenant="acme")
        child.warning("in the root again")

    inject = logger.inject_lambda_context(clear_state=True)
    handler = guarded(inject(body)) if order == "guard outside" else inject(guarded(body))
    if injected == "after":
        inject_trace_context(child)
    logger.info("before")
    for _ in range(2):
        handler({}, Context())
    logger.info("after")
    last, below = roots(backend)[-1], [row for row in backend.rows() if row["span_parents"]][-1]
    trace = last["root_span_id"]
    assert lines.ids() == {
        "before": (None, None), "in the root": (trace, last["span_id"]), "below": (trace, below["span_id"]),
        "in the root again": (trace, last["span_id"]), "after": (None, None),
    }
    assert len(lines.read_all()) == 8
    assert {line["function_request_id"] for line in lines.read_all()[1:]} == {Context.aws_request_id}
    handlers = logging.getLogger(logger.service).handlers
    assert [len(handler.filters) for handler in handlers] == [1]


def test_buffered_lines_have_the_ids_of_their_time(
    guarded: Any, backend: MemoryBackend, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffered line has the ids of the span that was current when it was logged, and its own position in the code."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-68f0c1aa-1b2c3d4e5f60718293a4b5c6")
    buffered = Logger(service=f"service-{next(numbers)}", stream=lines, level="DEBUG",
                      buffer_config=LoggerBufferConfig(buffer_at_verbosity="INFO"))
    inject_trace_context(inject_trace_context(buffered))

    @guarded
    def handler(event: Any, context: Any) -> None:
        with braintrust.start_span("below"):
            buffered.info("below", order=5)
        assert lines.getvalue() == ""
        buffered.error("in the root")

    handler({}, Context())
    (below,) = [row for row in backend.rows() if row["span_parents"]]
    root = root_of(backend)
    assert lines.ids() == {
        "below": (root["root_span_id"], below["span_id"]), "in the root": (root["root_span_id"], root["span_id"])
    }
    assert lines.read_all()[0]["order"] == 5
    assert lines.read_all()[0]["location"].startswith("handler:")


def test_a_users_own_ids_stay(guarded: Any, logger: Logger, lines: Lines) -> None:
    """An id that is passed with a line is kept."""
    inject_trace_context(logger)
    guarded(lambda event, context: logger.info("mine", braintrust_span_id="own"))({}, Context())
    trace, span = lines.ids()["mine"]
    assert (trace is not None, span) == (True, "own")


def test_our_faults_reach_no_log_line(
    guarded: Any, logger: Logger, lines: Lines, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """If the ids can't be read, a line is written without them."""
    inject_trace_context(logger)
    mocker.patch("trace_guard_lambda.powertools.trace_ids.live_invocation", side_effect=RuntimeError("ours"))
    guarded(lambda event, context: logger.info("said"))({}, Context())
    assert lines.ids() == {"said": (None, None)}
    caplog.clear()  # the fault was made on purpose


@pytest.mark.parametrize("odd", [None, object(), "logger"], ids=["nothing", "an object", "a string"])
def test_an_object_that_is_no_logger_is_returned(odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An object that is no logger is returned, with a line in the log."""
    assert inject_trace_context(odd) is odd
    assert "could not put trace ids on log lines" in caplog.text
    caplog.clear()


# Replayed answers


class Store(BasePersistenceLayer):
    """Keeps idempotency records in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {}

    def _get_record(self, idempotency_key: str) -> Any:
        if idempotency_key not in self.kept:
            raise IdempotencyItemNotFoundError
        return self.kept[idempotency_key]

    def _put_record(self, data_record: Any) -> None:
        if data_record.idempotency_key in self.kept:
            raise IdempotencyItemAlreadyExistsError
        self.kept[data_record.idempotency_key] = data_record

    def _update_record(self, data_record: Any) -> None:
        self.kept[data_record.idempotency_key] = data_record

    def _delete_record(self, data_record: Any) -> None:
        self.kept.pop(data_record.idempotency_key, None)


def idempotency(row: dict[str, Any]) -> Any:
    return row["metadata"].get("idempotency")


@pytest.mark.parametrize("order", ["guard outside", "guard inside"])
@pytest.mark.parametrize("hooked", [False, True], ids=["", "with a hook of the user's"])
def test_a_replayed_answer_is_tagged(guard: Guard, backend: MemoryBackend, order: str, hooked: bool) -> None:
    """The root of an answer that ``@idempotent`` replays is tagged with decorators in any order, the answer is
    unchanged, and the user's own hook is called."""
    calls: list[Any] = []
    hook = (lambda response, record: {**response, "replayed": record.status}) if hooked else None
    config = IdempotencyConfig(event_key_jmespath="order", response_hook=hook)
    assert tag_replays(config, guard=guard) is config
    tag_replays(tag_replays(config, guard=guard))

    def body(event: Any, context: Any) -> Any:
        calls.append(event)
        return {"number": event["order"]}

    once = idempotent(persistence_store=Store(), config=config)
    guarded = guard_handler(guard=guard)
    handler: Handler = guarded(once(body)) if order == "guard outside" else once(guarded(body))
    results = [handler({"order": number}, Context()) for number in (1, 1, 2)]
    first = {"number": 1}
    assert results == [first, {**first, "replayed": "COMPLETED"} if hooked else first, {"number": 2}]
    assert len(calls) == 2
    assert [(row["span_attributes"]["name"], idempotency(row), row["output"]) for row in roots(backend)] == [
        ("tickets", None, results[0]), ("tickets", {"replays": 1, "replayed": True}, results[1]),
        ("tickets", None, results[2]),
    ]
    assert [row["metadata"]["faas.name"] for row in roots(backend)] == ["tickets"] * 3


def test_a_replayed_function_is_tagged_where_it_was_called(guard: Guard, backend: MemoryBackend) -> None:
    """If only a function is replayed, the span that called it is tagged and the root counts it, as the root's own
    answer was not replayed."""
    config = tag_replays(IdempotencyConfig(event_key_jmespath="order"), guard=guard)

    @idempotent_function(data_keyword_argument="item", persistence_store=Store(), config=config)
    def charge(item: Any) -> Any:
        return {"charged": item["order"]}

    @guard_handler(guard=guard)
    def handler(event: Any, context: Any) -> Any:
        config.register_lambda_context(context)
        with braintrust.start_span("first"):
            first = charge(item={"order": 1})
        with braintrust.start_span("second"):
            return [first, charge(item={"order": 1})]

    assert handler({}, Context()) == [{"charged": 1}] * 2
    assert idempotency(root_of(backend)) == {"replays": 1}
    tags = {row["span_attributes"]["name"]: (row.get("metadata") or {}).get("idempotency") for row in backend.rows()
            if row["span_parents"]}
    assert tags == {"first": None, "second": {"replayed": True}}


@pytest.mark.filterwarnings("ignore:Couldn't determine the remaining time")
def test_replays_without_a_guard(backend: MemoryBackend, guard: Guard) -> None:
    """Without a Lambda context and an invocation, as in unit tests, a replay only returns its answer."""
    config = tag_replays(IdempotencyConfig(), guard=guard)

    @idempotent_function(data_keyword_argument="item", persistence_store=Store(), config=config)
    def charge(item: Any) -> Any:
        return {"charged": item}

    assert [charge(item=1) for _ in range(2)] == [{"charged": 1}] * 2
    assert backend.rows() == []
    with pytest.raises(SettingsError):
        tag_replays(IdempotencyConfig(), guard=guard, flush="sometimes")


def test_our_faults_change_no_replayed_answer(
    guard: Guard, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """If a replay can't be tagged, its answer is unchanged."""
    config = tag_replays(IdempotencyConfig(event_key_jmespath="order"), guard=guard)
    mocker.patch("trace_guard_lambda.powertools.replays._tag", side_effect=RuntimeError("ours"))
    handler = guard_handler(guard=guard)(
        idempotent(persistence_store=Store(), config=config)(lambda event, context: {"n": 1})
    )
    assert [handler({"order": 1}, Context()) for _ in range(2)] == [{"n": 1}] * 2
    caplog.clear()  # the fault was made on purpose


# Decorators in any order

SQS = {"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:sqs", "attributes": {}}]}


def decorators(guard: Guard) -> dict[str, Callable[[Handler], Handler]]:
    config = tag_replays(IdempotencyConfig(event_key_jmespath="Records[0].messageId"), guard=guard)
    return {
        "logger": Logger(service=f"service-{next(numbers)}", stream=Lines()).inject_lambda_context(
            log_event=True, clear_state=True
        ),
        "tracer": Tracer(service="tickets", disabled=True).capture_lambda_handler,
        "metrics": Metrics(namespace="tests", service="tickets").log_metrics(capture_cold_start_metric=True),
        "event_source": event_source(data_class=SQSEvent),
        "idempotent": idempotent(persistence_store=Store(), config=config),
    }


@pytest.mark.filterwarnings("ignore:No application metrics:UserWarning")
@pytest.mark.parametrize("order", ["guard outside", "guard inside"])
@pytest.mark.parametrize("chosen", ["logger", "tracer", "metrics", "event_source", "idempotent", "all"])
def test_decorators_in_any_order(guard: Guard, backend: MemoryBackend, chosen: str, order: str) -> None:
    """A guarded handler answers, raises and is traced alike above and below each of Powertools' decorators."""
    error = ValueError("no such order")

    def body(event: Any, context: Any) -> Any:
        if context.aws_request_id == "raise":
            raise error
        return {"message": event["Records"][0]["messageId"]}

    wanted = decorators(guard)
    layers = [*wanted.values()] if chosen == "all" else [wanted[chosen]]
    layers = [guard_handler(guard=guard), *layers] if order == "guard outside" else [
        *layers, guard_handler(guard=guard)
    ]
    handler: Handler = body
    for layer in reversed(layers):
        handler = layer(handler)
    raising = Context()
    raising.aws_request_id = "raise"
    with pytest.raises(ValueError, match="no such order") as caught:
        handler(SQS, raising)
    assert caught.value is error
    assert handler(SQS, Context()) == {"message": "1"}
    bad, good = roots(backend)
    assert (bad["input"], bad["metadata"]["trace_guard"], "output" in bad) == (SQS, {"outcome": "error"}, False)
    assert bad["error"].rstrip().endswith("ValueError: no such order")
    assert (good["input"], good["metadata"]["trace_guard"]) == (SQS, {"outcome": "ok"})
    assert good["output"] == {"message": "1"}
    assert "error" not in good


# Without Powertools


def program(code: str) -> subprocess.CompletedProcess[str]:
    path = ":".join(str(REPOSITORY / one) for one in (".", "adapters"))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path}, check=False
    )


def test_powertools_is_imported_by_its_users_only() -> None:
    """No module of trace_guard_lambda imports Powertools except trace_guard_lambda.powertools when it is used."""
    found = program(
        "import sys, trace_guard_lambda, trace_guard_lambda.records, trace_guard_lambda.powertools\n"
        "trace_guard_lambda.records.guard_record(lambda record: None)\n"
        "print([name for name in sys.modules if name.startswith(('aws_lambda_powertools', 'pydantic', 'boto'))])"
    )
    assert (found.stdout, found.stderr) == ("[]\n", "")


def test_without_powertools_the_import_names_the_package() -> None:
    """Without Powertools, the import error names the package to install, and the rest works."""
    found = program(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return None if name == 'aws_lambda_powertools' else self.finder.find_spec(name, path, target)\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]\n"
        "import trace_guard_lambda.records\n"
        "import trace_guard_lambda.powertools\n"
    )
    assert found.returncode == 1
    assert 'pip install "trace-guard[lambda]"' in found.stderr.splitlines()[-1]
