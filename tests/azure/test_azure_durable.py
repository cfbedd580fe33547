"""Durable functions: activities are guarded, and replayed functions are not."""

from __future__ import annotations

import json

from azure_host import triggers
from azure_host.deployment import Deployments, outcome_of, root_of
from azure_host.installation import needs_runtime

pytestmark = needs_runtime
AT = "2026-01-01T00:00:00.000000Z"
ORCHESTRATION = {
    "history": [
        {"EventType": 12, "EventId": -1, "IsPlayed": False, "Timestamp": AT},
        {"EventType": 0, "EventId": -1, "IsPlayed": False, "Timestamp": AT, "Name": "orchestrate", "Input": '"seven"',
         "Version": None},
    ],
    "input": '"seven"', "instanceId": "o1", "isReplaying": False, "parentInstanceId": None, "upperSchemaVersion": 2,
}
ENTITY = {
    "self": {"name": "counter", "key": "k"}, "state": "2", "exists": True,
    "batch": [{"name": "add", "input": '"5"', "isSignal": False}],
}


def test_the_metadata_is_unchanged(deploy: Deployments) -> None:
    """The metadata of a durable app is the same as without the guard."""
    guarded, plain = deploy("azure_durable").host.start(), deploy("azure_durable", GUARDED="no").host.start()
    assert set(plain.functions) == {"start", "orchestrate", "work", "counter"}
    assert guarded.functions == plain.functions


def test_replayed_functions_are_not_traced(deploy: Deployments) -> None:
    """An orchestrator and an entity answer as without the guard and are not traced."""
    answers = []
    for env in ({}, {"GUARDED": "no"}):
        app = deploy("azure_durable", **env)
        answers.append([
            app.invoke("orchestrate", ({"string": json.dumps(ORCHESTRATION)}, {}))[0],
            app.invoke("counter", ({"string": json.dumps(ENTITY)}, {}))[0],
        ])
        assert app.server.span_rows() == []
    assert [each.ok for each in answers[0]] == [True, True]
    assert "work" in json.dumps(answers[0][0].value)
    assert answers[0][1].value["entityState"] == "7"
    for guarded, plain in zip(*answers, strict=True):
        assert _lasting(guarded.value) == _lasting(plain.value)


def _lasting(value: object) -> object:
    """The span without its times."""
    state = json.loads(value) if isinstance(value, str) else value
    assert isinstance(state, dict)
    for result in state.get("results", ()):
        result.pop("duration")
        result.pop("startTime")
    return state


def test_an_activity_is_guarded(deploy: Deployments) -> None:
    """Each run of an activity is a trace, also if it fails."""
    app = deploy("azure_durable")
    answer, rows = app.invoke("work", ({"json": '"seven"'}, {}))
    assert "done seven" in str(answer.value)
    root = root_of(rows)
    assert (root["span_attributes"]["name"], outcome_of(root)) == ("work", "ok")
    answer, rows = app.invoke("work", ({"json": '"raise"'}, {}))
    assert answer.error == "LookupError: no such order"
    assert outcome_of(root_of(rows)) == "error"


def test_a_client_is_guarded(deploy: Deployments) -> None:
    """A function with a durable client gets the client and is a trace."""
    client = {"client": {"string": json.dumps({
        "taskHubName": "h", "creationUrls": {}, "managementUrls": {}, "baseUrl": "http://127.0.0.1:9",
        "rpcBaseUrl": "http://127.0.0.1:9", "requiredQueryStringParameters": "", "maxGrpcMessageSizeInBytes": 1,
    })}}
    answer, rows = deploy("azure_durable").invoke("start", triggers.http("POST"), more=client)
    assert (answer.value["status"], answer.value["body"]) == (202, b"DurableOrchestrationClient")
    assert outcome_of(root_of(rows)) == "ok"
