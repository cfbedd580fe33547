"""The worker's indexing of a guarded app, and the metadata that it reports to the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, named, root_of
from azure_host.installation import needs_runtime

pytestmark = needs_runtime
APP = Path(__file__).parent.parent / "functions" / "azure_triggers"
A_QUEUE_MESSAGE = {"type": "QueueMessage", "body": "one"}


def test_the_metadata_is_unchanged(deploy: Deployments) -> None:
    """The metadata of all functions is the same as without the guard: names, files, bindings, retries."""
    guarded, plain = deploy("azure_triggers").host.start(), deploy("azure_triggers", GUARDED="no").host.start()
    assert len(plain.functions) > 25
    assert guarded.functions == plain.functions


@pytest.mark.parametrize("function", ["above_the_trigger", "named-otherwise", "bound_as_context", "in_blueprint"])
def test_a_guard_can_stand_anywhere(deploy: Deployments, function: str) -> None:
    """A function runs and is traced with the guard above its trigger, under another name, in a blueprint, and with a
    binding called ``context``."""
    answer, rows = deploy("azure_triggers").invoke(function, triggers.queue("one"))
    assert answer.value == A_QUEUE_MESSAGE
    root = root_of(rows)
    assert root["span_attributes"]["name"] == function
    assert root["metadata"]["faas.name"] == f"shop/{function}"
    assert root["metadata"]["faas.invocation_id"] == answer.invocation_id


def test_the_context_is_given_as_declared(deploy: Deployments) -> None:
    """A function that declares the context gets it, with its own directory, name and retries."""
    app = deploy("azure_triggers")
    answer, rows = app.invoke(
        "with_context", triggers.queue("one"), retry={"retry_count": 2, "max_retry_count": 3}, invocation_id="i1"
    )
    assert answer.value == {
        "type": "Context", "id": "i1", "function": "with_context", "directory": str(APP), "retries": 2,
    }
    assert root_of(rows)["metadata"]["faas.invocation_id"] == "i1"
    assert app.invoke("with_bare_context", triggers.queue("one"), invocation_id="i2")[0].value == {"id": "i2"}


def test_the_context_is_known_without_being_declared(deploy: Deployments) -> None:
    """A function that does not declare the context does not get it, and its trace has the invocation's id and
    retries."""
    answer, rows = deploy("azure_triggers").invoke(
        "retried", triggers.queue("one"), retry={"retry_count": 1, "max_retry_count": 3}
    )
    assert answer.value == A_QUEUE_MESSAGE
    metadata = root_of(rows)["metadata"]
    assert metadata["faas.invocation_id"] == answer.invocation_id
    assert metadata["azure.functions.retry.count"] == 1
    assert metadata["azure.functions.retry.max_count"] == 3


def test_bindings_beside_the_trigger_work(deploy: Deployments) -> None:
    """Inputs and outputs of other bindings pass the guard, whose keywords are on the trace."""
    answer, rows = deploy("azure_triggers").invoke(
        "with_other_bindings", triggers.queue("one"), more={"customer": {"string": "Ann"}}
    )
    assert (answer.ok, answer.value, answer.outputs) == (True, None, {"receipt": "one for Ann"})
    root = named(rows)["renamed"]
    assert root["tags"] == ["shop"]
    assert root["metadata"]["team"] == "orders"


def test_an_invalid_result_fails_as_without_the_guard(deploy: Deployments) -> None:
    """A result that no binding accepts fails the invocation with the worker's own message, as without the guard."""
    errors = [
        deploy("azure_triggers", **env).host.start().invoke("returns_where_nothing_may", triggers.queue("one")).error
        for env in ({}, {"GUARDED": "no"})
    ]
    assert errors[0] == errors[1]
    assert "without a $return binding" in errors[0]


@pytest.mark.parametrize(("function", "name"), [("twice", "once"), ("late", "late")])
def test_an_app_guards_later_functions(deploy: Deployments, function: str, name: str) -> None:
    """A function that is added after guard_app is guarded too. A function with a guard of its own has one trace,
    with that guard's keywords."""
    answer, rows = deploy("azure_contract_app").invoke(function, triggers.queue("one"))
    assert answer.value == "one"
    (row,) = rows
    assert row["span_attributes"]["name"] == name
