"""The samples: how each is called, and what its trace says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

import azure.functions as func
from azure.functions.queue import QueueMessage
from sample_calls import Call, asgi, aws, azure, function, job, wsgi
from sample_events import (
    alb,
    custom_resource,
    firehose,
    http_api,
    kinesis,
    rest,
    s3,
    sqs,
    token_authorizer,
    websocket,
)

__all__ = ["CASES", "SAME", "Case"]

SAME = object()
"""The output is the result of the call."""


class Case(NamedTuple):
    """A sample, a call, and its trace.

    Attributes:
        name: of the root span.
        input: a part of the root's input.
        output: the root's whole output.
        error: a part of the root's error; None without one.
        status: of the response, if the trace has one.
        spans: the names of the other spans, by their start.
    """

    file: str
    what: str
    call: Call
    name: str
    input: Any
    output: Any = SAME
    error: str | None = None
    status: int | None = None
    spans: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.file.rpartition('/')[2].removesuffix('.py')}: {self.what}"

    @property
    def outcome(self) -> str:
        return "error" if self.error else "ok"

    @property
    def is_loaded_by_framework(self) -> bool:
        return self.file.startswith("google/") and not self.file.endswith("_service.py")


def lambda_(file: str, what: str, event: Any, name: str, output: Any = SAME, input: Any = None, **more: Any) -> Case:
    """A Lambda function, whose input is the event unless a part of it is given."""
    return Case(f"aws/{file}", what, aws(event), name, event if input is None else input, output, **more)


ONE = ("complete",)
BODY = {"content-type": "application/json"}

AWS = [
    lambda_("rest_api.py", "read", rest("GET", "/notes/{id}", id="1"), "GET /notes/{id}", status=200),
    lambda_("rest_api.py", "unknown", rest("GET", "/notes/{id}", id="9"), "GET /notes/{id}", status=404),
    lambda_("rest_api.py", "create", rest("POST", "/notes", '{"text": "tea"}'), "POST /notes", status=201),
    lambda_("rest_api.py", "no JSON", rest("POST", "/notes", "{"), "POST /notes", None, error="JSONDecodeError"),
    lambda_("http_api.py", "bare result", http_api("POST", "/summaries", '{"text": "tea"}'), "POST /summaries",
            {"summary": "about tea"}, status=200, spans=ONE),
    lambda_("function_url.py", "answer", http_api("GET", None, query={"prompt": "tea"}), "GET", status=200, spans=ONE),
    lambda_("function_url.py", "failing model", http_api("GET", None, query={"prompt": "fail"}), "GET",
            error="HTTP 502", status=502, spans=ONE),
    lambda_("websocket_chat.py", "connect", websocket("$connect"), "WebSocket $connect", status=200),
    lambda_("websocket_chat.py", "gone", websocket("ask", '{"prompt": "tea"}'), "WebSocket ask", None,
            error="ConnectionError: GoneException", spans=ONE),
    lambda_("sqs_partial_batch.py", "one fails", sqs("tickets", "tea", "fail"), "tickets process",
            {"batchItemFailures": [{"itemIdentifier": "m1"}]},
            spans=("sort_ticket", "complete", "sort_ticket", "complete")),
    lambda_("sqs_partial_batch.py", "all fail", sqs("tickets", "fail"), "tickets process",
            {"batchItemFailures": [{"itemIdentifier": "m0"}]}, error="failed", spans=("sort_ticket", "complete")),
    lambda_("bedrock_action_group.py", "status", {
        "messageVersion": "1.0", "agent": {"name": "claims", "id": "A1", "alias": "live", "version": "7"},
        "inputText": "is my claim open?", "sessionId": "s1", "actionGroup": "Claims", "function": "claimStatus",
        "parameters": [{"name": "claim", "type": "string", "value": "81524"}], "sessionAttributes": {},
        "promptSessionAttributes": {},
    }, "claimStatus"),
    lambda_("bedrock_action_group.py", "no function", {
        "messageVersion": "1.0", "agent": {"name": "claims", "id": "A1", "alias": "live", "version": "7"},
        "sessionId": "s1", "actionGroup": "Claims", "function": "payOut",
    }, "payOut", error="responseState is FAILURE"),
    lambda_("bedrock_agent_chat.py", "answer", {"agent": "claims", "question": "is it open?"}, "assistant",
            {"session": "new", "answer": "Your claim is open."}),
    lambda_("bedrock_agent_chat.py", "no agent", {"agent": "x", "question": "?"}, "assistant", None,
            error="LookupError: ResourceNotFoundException"),
    lambda_("load_balancer.py", "page", alb("GET", "/hello", {"name": "Ann"}), "GET", status=200),
    lambda_("load_balancer.py", "broken", alb("GET", "/broken", {}), "GET", error="HTTP 503", status=503),
    lambda_("appsync_resolver.py", "ask", {
        "arguments": {"question": "tea"}, "identity": None, "source": None, "request": {"headers": {}}, "prev": None,
        "info": {"fieldName": "ask", "parentTypeName": "Query", "variables": {}, "selectionSetList": ["id"]},
    }, "Query.ask", {"id": "tea", "answer": "about tea"}, spans=ONE),
    lambda_("mangum_fastapi.py", "read", http_api("GET", None, path="/books/1"), "GET /books/{book_id}", status=200),
    lambda_("mangum_fastapi.py", "unknown", alb("GET", "/books/2", {}), "GET /books/{book_id}", status=404),
    lambda_("mangum_fastapi.py", "exception", rest("GET", "/{proxy+}", path="/reviews/7"), "GET /reviews/{book_id}",
            error="KeyError: 7", status=500),
    lambda_("class_based.py", "summarize", {"action": "summarize", "text": "tea"}, "assistant", {"result": "about tea"},
            spans=ONE),
    lambda_("class_based.py", "unknown", {"action": "dance"}, "assistant", None,
            error="ValueError: unknown action: dance"),
    lambda_("powertools_routes.py", "read", rest("GET", "/{proxy+}", path="/tickets/7"), "GET /tickets/<ticket>",
            status=200, spans=ONE),
    lambda_("powertools_routes.py", "unknown", rest("GET", "/{proxy+}", path="/tickets/0"), "GET /tickets/<ticket>",
            status=404),
    lambda_("powertools_routes.py", "handled", rest("GET", "/{proxy+}", path="/tickets/13"), "GET /tickets/<ticket>",
            error="ThrottlingException: too many requests", status=503, spans=ONE),
    lambda_("step_functions_task.py", "verdict", {"input": {"claim": "tea"}, "context": {
        "Execution": {"Id": "arn:aws:states:eu-west-1:1:execution:refund:e1", "Name": "e1"},
        "State": {"Name": "JudgeClaim", "RetryCount": 0}, "StateMachine": {"Name": "refund"},
    }}, "refund JudgeClaim", {"claim": "tea", "verdict": "about tea"}, spans=ONE),
    lambda_("step_functions_task.py", "busy", {"input": {"claim": "fail"}}, "assistant", None,
            error="ModelIsBusy: try again", spans=ONE),
    lambda_("eventbridge_rule.py", "mood", {
        "version": "0", "id": "e1", "detail-type": "Review Written", "source": "shop", "account": "1",
        "time": "2026-01-01T00:00:00Z", "region": "eu-west-1", "resources": [], "detail": {"text": "tea"},
    }, "Review Written process", {"id": "e1", "mood": "about tea"}, spans=ONE),
    lambda_("s3_ingest.py", "two documents", s3("inbox", "offer+1.pdf", "b.pdf"), "inbox ObjectCreated:Put",
            {"indexed": [{"key": "offer 1.pdf", "summary": "about offer 1.pdf"},
                         {"key": "b.pdf", "summary": "about b.pdf"}]},
            spans=("record", "complete", "record", "complete")),
    lambda_("s3_ingest.py", "a folder", s3("inbox", "new/"), "inbox ObjectCreated:Put", None,
            error="ValueError: new/ is a folder", spans=("record",)),
    lambda_("dynamodb_stream.py", "changes", {"Records": [
        {"eventID": str(number), "eventName": kind, "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1",
         "eventSourceARN": "arn:aws:dynamodb:eu-west-1:1:table/Notes/stream/2026", "dynamodb": {
             "Keys": {"id": {"S": "n1"}}, "NewImage": {"text": {"S": "tea"}}, "SequenceNumber": str(number)}}
        for number, kind in enumerate(["INSERT", "REMOVE"])
    ]}, "Notes process", {"batchItemFailures": []}, spans=("record", "record")),
    lambda_("kinesis_stream.py", "a bad record", kinesis("clicks", '{"kind": "open"}', "{"), "clicks process",
            {"batchItemFailures": [{"itemIdentifier": "1"}]}, spans=("read", "read")),
    lambda_("custom_resource.py", "create", custom_resource("Create", Dimensions="8"), "Custom::Index Create",
            {"PhysicalResourceId": "index-8"}, {"RequestType": "Create", "ResourceProperties": {"Dimensions": "8"}}),
    lambda_("custom_resource.py", "bad size", custom_resource("Update", Dimensions="many"), "Custom::Index Update",
            None, {"RequestType": "Update"}, error="ValueError: invalid literal"),
    lambda_("authorizer.py", "allow", token_authorizer("allow"), "authorize GET",
            input={"type": "TOKEN", "authorizationToken": "[redacted]"}),
    lambda_("authorizer.py", "unauthorized", token_authorizer("guess"), "authorize GET", None,
            input={"type": "TOKEN", "authorizationToken": "[redacted]"}, error="Exception: Unauthorized"),
    lambda_("scheduled_digest.py", "digest", {
        "version": "0", "id": "e1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "1",
        "time": "2026-01-01T00:00:00Z", "region": "eu-west-1", "detail": {},
        "resources": ["arn:aws:events:eu-west-1:1:rule/every-morning"],
    }, "assistant", {"digest": ["about tea", "about rain"]}, spans=ONE * 2),
    lambda_("cognito_sign_up.py", "member", {
        "version": "1", "region": "eu-west-1", "userPoolId": "p1", "userName": "ann", "callerContext": {},
        "triggerSource": "PreSignUp_SignUp", "request": {"userAttributes": {"email": "ann@example.org"}},
        "response": {},
    }, "PreSignUp_SignUp"),
    lambda_("firehose_transform.py", "one fails", firehose("calls", "tea", "thé"), "calls process"),
]


def google(file: str, what: str, call: Call, name: str, input: Any, output: Any = None, **more: Any) -> Case:
    return Case(f"google/{file}", what, call, name, input, output, **more)


def event_headers(kind: str, source: str) -> Mapping[str, str]:
    return {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": kind, "ce-source": source, **BODY}


def storage(name: str) -> Any:
    headers = event_headers("google.cloud.storage.object.v1.finalized", "//storage.googleapis.com/buckets/inbox")
    return function("POST", "/", json={"bucket": "inbox", "name": name}, headers=headers)


def pubsub(text: str) -> Any:
    return function("POST", "/", kind="event", json={
        "context": {"eventId": "77", "timestamp": "2026-01-01T00:00:00Z", "eventType": "google.pubsub.topic.publish",
                    "resource": {"service": "pubsub.googleapis.com", "name": "projects/p/topics/tickets"}},
        "data": {"data": base64.b64encode(text.encode()).decode(), "attributes": {}},
    })


GOOGLE = [
    google("http_function.py", "answer", function("POST", "/ask?fast=1", json={"prompt": "tea"}), "POST main",
           {"method": "POST", "path": "/ask", "query": {"fast": "1"}, "body": {"prompt": "tea"}},
           {"status_code": 201, "body": {"answer": "about tea"}}, status=201, spans=ONE),
    google("http_function.py", "no prompt", function("POST", "/ask", data="x"), "POST main", {"method": "POST"},
           {"status_code": 400, "body": {"error": "no prompt"}}, status=400),
    google("http_function.py", "failing model", function("POST", "/", json={"prompt": "fail"}), "POST main",
           {"body": {"prompt": "fail"}}, error="RuntimeError: ThrottlingException", spans=ONE),
    google("async_function.py", "answer", function("POST", "/ask", json={"prompt": "tea"}), "POST main",
           {"path": "/ask", "body": {"prompt": "tea"}}, {"answer": "about tea"}, status=200, spans=ONE),
    google("async_function.py", "no JSON", function("POST", "/ask", content=b"{", headers=BODY), "POST main",
           {"path": "/ask", "body": "{"}, error="JSONDecodeError"),
    google("storage_event.py", "a document", storage("a.pdf"), "google.cloud.storage.object.v1.finalized process",
           {"bucket": "inbox", "name": "a.pdf"}, spans=ONE),
    google("storage_event.py", "not finished", storage("a.tmp"), "google.cloud.storage.object.v1.finalized process",
           {"name": "a.tmp"}, error="ValueError: a.tmp is not finished"),
    google("storage_event.py", "malformed", function("POST", "/", data="{", headers={
        **BODY, "function-execution-id": "e1",
    }), "POST main", {"method": "POST", "body": "{"}, error="BadRequest", status=400),
    google("background_function.py", "a message", pubsub("tea"), "google.pubsub.topic.publish process",
           {"data": "tea"}, spans=ONE),
    google("typed_function.py", "receipt", function("POST", "/", json={"item": "tea", "count": 2}), "POST main",
           {"body": {"item": "tea", "count": 2}}, {"total": 6}, status=200),
    google("typed_function.py", "malformed", function("POST", "/", json={"item": "tea"}), "POST main",
           {"body": {"item": "tea"}}, error="KeyError: 'count'", status=500),
    google("flask_service.py", "read", wsgi("GET", "/orders/7"), "GET /orders/<int:order>",
           {"method": "GET", "path": "/orders/7"},
           {"status_code": 200, "body": {"note": "about order 7", "order": 7}}, status=200, spans=ONE),
    google("flask_service.py", "unknown", wsgi("GET", "/orders/0"), "GET /orders/<int:order>", {"path": "/orders/0"},
           {"status_code": 404}, status=404),
    google("flask_service.py", "busy", wsgi("GET", "/orders/13"), "GET /orders/<int:order>", {"path": "/orders/13"},
           {"status_code": 503, "body": {"error": "busy"}}, error="HTTP 503", status=503, spans=ONE),
    google("fastapi_service.py", "answer", asgi("POST", "/answers/drinks", json={"prompt": "tea"}),
           "POST /answers/{topic}", {"method": "POST", "path": "/answers/drinks", "body": {"prompt": "tea"}},
           {"status_code": 200, "body": {"answer": "about tea", "topic": "drinks"}}, status=200, spans=ONE),
    google("fastapi_service.py", "not valid", asgi("POST", "/answers/drinks", json={}), "POST /answers/{topic}",
           {"path": "/answers/drinks", "body": {}}, {"status_code": 422}, status=422),
    google("fastapi_service.py", "stream", asgi("GET", "/streams/tea"), "GET /streams/{topic}",
           {"path": "/streams/tea"}, {"status_code": 200, "body": "data: about\n\ndata: tea\n\n"}, status=200,
           spans=ONE),
    google("fastapi_service.py", "failing stream", asgi("GET", "/streams/fail"), "GET /streams/{topic}",
           {"path": "/streams/fail"}, {"status_code": 200}, error="RuntimeError: ThrottlingException", status=200,
           spans=ONE),
    google("streaming_function.py", "stream", function("GET", "/?prompt=tea"), "GET main",
           {"method": "GET", "query": {"prompt": "tea"}}, "data: about\n\ndata: tea\n\n", status=200, spans=ONE),
]


def request(method: str, url: str, body: bytes = b"", **route: str) -> func.HttpRequest:
    return func.HttpRequest(method, f"https://shop{url}", headers=BODY, route_params=route, body=body)


def events(*bodies: bytes) -> list[func.EventHubEvent]:
    return [func.EventHubEvent(body=body, partition_key="p", sequence_number=number) for number, body in
            enumerate(bodies)]


class Document(func.InputStream):
    """A blob."""

    name, length, uri, blob_properties, metadata = "incoming/a.txt", 3, "https://shop/incoming/a.txt", {}, {}

    def __init__(self) -> None:
        pass

    def read(self, size: int = -1) -> bytes:
        return b"tea"


class Timer(func.TimerRequest):
    """A timer."""

    def __init__(self, past_due: bool) -> None:
        self._past_due = past_due

    @property
    def past_due(self) -> bool:
        return self._past_due


def app(what: str, call: Call, name: str, input: Any, output: Any = None, **more: Any) -> Case:
    return Case("azure_/functions.py", what, call, name, input, output, **more)


AZURE = [
    app("request", azure("ask", req=request("POST", "/api/ask/drinks", b'{"prompt": "tea"}', topic="drinks")),
        "POST ask", {"method": "POST", "body": {"prompt": "tea"}},
        {"status_code": 200, "body": {"topic": "drinks", "answer": "about tea"}}, status=200, spans=ONE),
    app("request without a prompt", azure("ask", req=request("POST", "/api/ask/drinks", b"{", topic="drinks")),
        "POST ask", {"body": "{"}, {"status_code": 400, "body": "send a prompt"}, status=400),
    app("failing request", azure("ask", req=request("POST", "/api/ask/drinks", b'{"prompt": "fail"}', topic="drinks")),
        "POST ask", {"body": {"prompt": "fail"}}, error="RuntimeError: ThrottlingException", status=500, spans=ONE),
    app("queue", azure("sort_ticket", "sorted", message=QueueMessage(id="m1", body=b"tea")), "sort_ticket", "tea",
        spans=ONE),
    app("failing queue", azure("sort_ticket", "sorted", message=QueueMessage(id="m1", body=b"fail")), "sort_ticket",
        "fail", error="RuntimeError: ThrottlingException", spans=ONE),
    app("blob", azure("index_document", document=Document()), "index_document",
        {"name": "incoming/a.txt", "length": 3}, spans=ONE),
    app("event hub", azure("read_clicks", events=events(b'{"n": 1}', b'{"n": 2}')), "read_clicks", [{"n": 1}, {"n": 2}],
        spans=("message", "message")),
    app("malformed event", azure("read_clicks", events=events(b'{"n": 1}', b"{")), "read_clicks", [{"n": 1}, "{"],
        error="JSONDecodeError", spans=("message", "message")),
    app("timer of a blueprint", azure("morning_digest", timer=Timer(False)), "morning_digest",
        {"past_due": False}, spans=ONE),
    app("late timer", azure("morning_digest", timer=Timer(True)), "morning_digest", {"past_due": True},
        error="TimeoutError: too late for a digest"),
    app("request of a blueprint", azure("health", req=request("GET", "/api/health")), "GET health",
        {"method": "GET"}, "fine", status=200),
    Case("azure_/asgi_app.py", "answer", azure("http_app_func", req=request("GET", "/api/answers/tea")),
         "GET /api/answers/{topic}", {"method": "GET"}, {"status_code": 200, "body": {"answer": "about tea"}},
         status=200, spans=ONE),
]

JOBS = [
    Case("jobs/nightly_batch.py", "all sorted", job("main", "good"), "nightly-batch", {"args": ["good"]},
         {"sorted": 2}, spans=("complete",) * 4),
    Case("jobs/nightly_batch.py", "some fail", job("main", "half"), "nightly-batch", {"args": ["half"]}, None,
         error="3", spans=("complete",) * 4),
    Case("jobs/nightly_batch.py", "all fail", job("main", "bad"), "nightly-batch", {"args": ["bad"]}, None,
         error="every ticket failed", spans=("complete",) * 4),
    Case("jobs/steps.py", "index", job("rebuild_index", "tea,rain"), "rebuild_index", {"args": ["tea,rain"]},
         ["about tea", "about rain"], spans=("read", "embed", "complete", "complete")),
    Case("jobs/steps.py", "a step fails", job("rebuild_index", "tea,fail"), "rebuild_index", {"args": ["tea,fail"]},
         None, error="RuntimeError: ThrottlingException", spans=("read", "embed", "complete", "complete")),
]

CASES = [*AWS, *GOOGLE, *AZURE, *JOBS]
