"""Objects and calls with a key of their own, in a handler of a process with another key: ``... NAME``.

Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import braintrust
from braintrust import Attachment, init_dataset

import trace_guard

KEY = {"api_key": "key-b"}


def serve(guard: trace_guard.Guard, name: str) -> str:
    with guard.invocation(name) as invocation, braintrust.start_span(f"step of {name}"):
        pass
    assert invocation.delivery is not None
    return invocation.delivery.verdict.value


def within(work: Any) -> Any:
    """An invocation that does this, between others that don't."""
    guard = trace_guard.Guard(project="shared")
    verdicts = [serve(guard, "earlier")]
    with guard.invocation("first") as invocation:
        braintrust.start_span("before").end()
        said = work()
        braintrust.start_span("after").end()
    verdicts += [serve(guard, f"later{n}") for n in range(2)]
    assert verdicts == ["delivered"] * 3
    return [said, invocation.delivery.verdict.value]


def dataset() -> Any:
    """A dataset that is written and read."""
    def work() -> Any:
        made = init_dataset(project="shared", name="cases", **KEY)
        made.insert(input=1, expected=2, id="row-b")
        made.flush()
        return [row["id"] for row in made.fetch()]

    return within(work)


def experiment() -> Any:
    """An experiment that is current, with spans and a summary."""
    def work() -> Any:
        made = braintrust.init(project="shared", experiment="exp", **KEY)
        with braintrust.start_span("case-b") as span:
            span.log(input=1, output=1, scores={"right": 1})
            braintrust.start_span("within-b").end()
        braintrust.start_span("left-open-b")
        scores = {name: score.score for name, score in made.summarize().scores.items()}
        braintrust.logger._state.current_experiment = None
        return scores

    return within(work)


def logger() -> Any:
    """A logger of a customer's."""
    def work() -> Any:
        made = braintrust.init_logger(project="shared", set_current=False, **KEY)
        with made.start_span("customer-b") as span:
            span.start_span("within-b").end()
        made.start_span("left-open-b")
        return made.project.name

    return within(work)


def attachments() -> Any:
    """Attachments of each kind of object, in a row of ours, and of a second state; and those of a dataset are read."""
    def attached(name: str) -> Attachment:
        return Attachment(data=f"content of {name}".encode(), filename=name, content_type="text/plain")

    def work() -> Any:
        made = init_dataset(project="shared", name="cases", **KEY)
        made.insert(input={"files": [attached("dataset-b")]}, id="row-b")
        made.flush()
        experiment = braintrust.init(project="shared", experiment="exp", set_current=False, **KEY)
        experiment.log(input=attached("experiment-b"), output=1, scores={}, id="case-b")
        experiment.flush()
        logger = braintrust.init_logger(project="shared", set_current=False, **KEY)
        logger.start_span("customer-b", input=attached("logger-b")).end()
        state = braintrust.logger.BraintrustState()
        state.login(**KEY)
        second = braintrust.init_logger(
            project="shared", project_id=os.environ["PROJECT_OF_B"], set_current=False, state=state
        )
        second.start_span("second-b", input=attached("state-b")).end()
        second.flush()
        braintrust.start_span("ours", input=attached("ours-a")).end()
        braintrust.flush()
        return None

    said = within(work)
    again = init_dataset(project="shared", name="cases", **KEY)
    return [*said, [row["input"]["files"][0].data.decode() for row in again.fetch()]]


def prompt() -> Any:
    """A prompt, which belongs to the other organisation."""
    return within(lambda: braintrust.load_prompt(project="shared", slug="greeting", **KEY).slug)


def elsewhere() -> Any:
    """A prompt and parameters of another server, between those of the own one."""
    there = {**KEY, "app_url": os.environ["OTHER_URL"]}

    def load(name: str, **where: Any) -> Any:
        return getattr(braintrust, f"load_{name}")(project="shared", slug="greeting", **where)

    def work() -> Any:
        said = [load("prompt", **where).prompt.content for where in ({}, there, {})]
        if hasattr(braintrust, "load_parameters"):
            said += [load("parameters", **where).data["said"] for where in ({}, there, {})]
        return said

    return within(work)


def function() -> Any:
    """A function that is invoked."""
    return within(lambda: braintrust.invoke(project_name="shared", slug="echo", input="hello", **KEY))


def second_state() -> Any:
    """Spans of a second state that are left open."""
    def work() -> Any:
        state = braintrust.logger.BraintrustState()
        state.login(**KEY)
        # Old releases look a name up with the global state.
        made = braintrust.init_logger(
            project="shared", project_id=os.environ["PROJECT_OF_B"], set_current=False, state=state
        )
        made.start_span("left-open-b").start_span("within-b")
        return None

    return within(work)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
    if len(sys.argv) > 2:
        sys.stdin.readline()
