"""Judgements of results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_events import EVENTS, recorded

from trace_guard_lambda.triggers import Description, Judgement, describe, judge

NOTHING = Judgement()


def status(code: int) -> Judgement:
    return Judgement(f"HTTP {code}" if code >= 500 else None, {"http.response.status_code": code})


def batch(failed: int, count: int, error: str | None = None) -> Judgement:
    return Judgement(error, {"batch": {"failed": failed, "count": count}})


def items(*identifiers: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}


NO_ID = ": batchItemFailures has an item without a usable itemIdentifier"
REPROMPT = {"response": {"functionResponse": {"responseState": "REPROMPT"}}}
FAILURE = {"response": {"functionResponse": {"responseState": "FAILURE", "responseBody": {}}}}


@pytest.mark.parametrize(
    "event", ["api_gateway_rest", "api_gateway_http", "function_url", "alb", "vpc_lattice", "vpc_lattice_v1"]
)
@pytest.mark.parametrize("code", [200, 404, 499, 500, 502, 599])
def test_a_status_of_500_and_above_is_an_error(event: str, code: int) -> None:
    """An HTTP result with a status of 500 or more makes the invocation an error, and every status is recorded."""
    assert judge(describe(recorded(event)), {"statusCode": code, "body": "secret"}) == status(code)


@pytest.mark.parametrize(
    ("event", "result", "judgement"),
    [
        ("api_gateway_rest", {"statusCode": "503"}, status(503)),
        ("api_gateway_rest", {"body": "no status"}, NOTHING),
        ("api_gateway_rest", {"statusCode": 5000}, NOTHING),
        ("api_gateway_rest", None, NOTHING),
        ("api_gateway_http", {"answer": 42}, status(200)),
        ("function_url", "hello", status(200)),
        ("function_url", None, status(200)),
        ("function_url", {"statusCode": "five hundred"}, NOTHING),
        ("api_gateway_websocket_connect", {"statusCode": 500}, status(500)),
        ("api_gateway_authorizer", {"statusCode": 500}, NOTHING),
        ("appsync_authorizer", {"isAuthorized": False}, NOTHING),
        ("cloudfront_viewer_request", {"status": "503"}, status(503)),
        ("cloudfront_origin_response", {"status": "503"}, status(503)._replace(error=None)),
        ("firehose_put", {"records": [{"result": "Ok"}, {"result": "ProcessingFailed"}]}, batch(1, 2)),
        ("firehose_put", {"records": [{"result": "Dropped"}]}, batch(0, 2)),
        (
            "firehose_sqs", {"records": [{"result": "ProcessingFailed"}]},
            batch(1, 1, "the only record of the batch failed"),
        ),
        ("s3_batch_schema_2", {"results": [{"resultCode": "PermanentFailure"}]}, batch(1, 2)),
        (
            "s3_batch", {"results": [{"resultCode": "TemporaryFailure"}]},
            batch(1, 1, "the only record of the batch failed"),
        ),
        ("bedrock_agent_api", {"response": {"httpStatusCode": 500}}, status(500)),
        ("bedrock_agent_api", {"response": {"httpStatusCode": 200}}, status(200)),
        ("bedrock_agent_function", REPROMPT, Judgement(None, {"aws.bedrock.response_state": "REPROMPT"})),
        (
            "bedrock_agent_function", FAILURE,
            Judgement("the action failed: responseState is FAILURE", {"aws.bedrock.response_state": "FAILURE"}),
        ),
        ("bedrock_agent_function", {"response": {"functionResponse": {"responseBody": {}}}}, NOTHING),
        ("sqs_batch", items("a"), batch(1, 3)),
        ("sqs_batch", items("a", "a"), batch(1, 3)),
        ("sqs_batch", items(), batch(0, 3)),
        ("sqs_batch", items("a", "b", "c"), batch(3, 3, "all 3 records of the batch failed")),
        ("sqs_batch", items("a", "b", "c", "d"), batch(3, 3, "all 3 records of the batch failed")),
        ("sqs_batch", items("a", ""), batch(3, 3, "all 3 records of the batch failed" + NO_ID)),
        ("sqs_batch", {"batchItemFailures": [{"id": "a"}]}, batch(3, 3, "all 3 records of the batch failed" + NO_ID)),
        ("sqs_batch", {"batchItemFailures": None}, NOTHING),
        ("sqs_batch", {"statusCode": 500}, NOTHING),
        ("sqs", items("a"), batch(1, 1, "the only record of the batch failed")),
        ("sns_in_sqs", items(), batch(0, 1)),
        ("kinesis_consumer", items("49603"), batch(1, 2)),
        ("dynamodb_batch", items("42131"), batch(1, 3)),
        ("msk_batch", items("a"), NOTHING),
        ("sns", items("a"), NOTHING),
        ("warm_up", {"statusCode": 500}, NOTHING),
        ("direct", {"statusCode": 500}, NOTHING),
    ],
)
def test_a_result_is_judged_by_its_source(event: str, result: Any, judgement: Judgement) -> None:
    """The event's source decides how a result is judged."""
    assert judge(describe(recorded(event)), result) == judgement


def test_a_custom_description_is_judged() -> None:
    """A custom extractor's description is judged if it names a source, and not otherwise."""
    assert judge(Description(source="alb"), {"statusCode": 500}) == status(500)
    assert judge(Description(source="a bus of our own"), {"statusCode": 500}) == NOTHING
    assert judge(Description(), {"statusCode": 500}) == NOTHING


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.sampled_from(["500", "FAILURE"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["statusCode", "batchItemFailures", "itemIdentifier", "response", "httpStatusCode",
                         "functionResponse", "responseState"]) | st.integers(), inner, max_size=4,
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(values)
def test_any_result_can_be_judged(result: Any) -> None:
    """Any result of any source is judged without a fault."""
    for event in EVENTS[::3]:
        assert isinstance(judge(DESCRIBED[event], result), Judgement)


DESCRIBED = {event: describe(recorded(event)) for event in EVENTS}
