"""Step Functions: tasks whose payload contains the context object."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from trace_guard.invocation.reading import LOOKED_AT, carrier, mapping, number, text

from .description import Carrier, Description, Trigger

__all__ = ["StepFunctions"]


class StepFunctions(Trigger):
    """A task that gets the context object (``$$``, or ``$states.context`` in JSONata), either merged into its input or
    below a key of its own. Without the context object, a task's event is its input and does not show its source.

    A parent can be in the task's or the execution's input, as top-level ``traceparent`` and ``baggage``.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html
    """

    source = "step_functions"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return bool(_context_object(event))

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        context_object = _context_object(event)
        execution, state = mapping(context_object.get("Execution")), mapping(context_object.get("State"))
        machine = mapping(context_object.get("StateMachine"))
        task, flow = text(state.get("Name")), text(machine.get("Name"))
        facts = {
            "aws.step_functions.state_machine.arn": text(machine.get("Id")),
            "aws.step_functions.execution.arn": text(execution.get("Id")),
            "aws.step_functions.execution.redrive_count": number(execution.get("RedriveCount")) or None,
            "aws.step_functions.state.name": task,
            "aws.step_functions.state.retry_count": number(state.get("RetryCount")),
        }
        name = " ".join(part for part in (flow, task) if part) or None
        return cls.description(facts, name=name, carriers=(_carrier(event, context_object, execution),))


def _carrier(event: Any, context_object: Mapping[Any, Any], execution: Mapping[Any, Any]) -> Carrier:
    own = carrier(event) or carrier(execution.get("Input"))
    if own or context_object is event:
        return own
    # {"input": {...}, "context": {...}}, as in the documentation
    for value in islice(mapping(event).values(), LOOKED_AT):
        if value is not context_object and (own := carrier(value)):
            return own
    return {}


def _context_object(event: Any) -> Mapping[Any, Any]:
    whole = mapping(event)
    if _is_context_object(whole):
        return whole
    for value in islice(whole.values(), LOOKED_AT):
        if type(value) is dict and _is_context_object(value):
            return value
    return {}


def _is_context_object(value: Mapping[Any, Any]) -> bool:
    if "Execution" not in value or ("State" not in value and "StateMachine" not in value):
        return False
    return ":states:" in (text(mapping(value["Execution"]).get("Id")) or "")
