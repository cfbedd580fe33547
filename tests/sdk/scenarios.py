"""What a user does with the SDK, run by an interpreter that has one release of it: ``scenarios.py NAME``.

Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import braintrust
from braintrust.logger import ReadonlyAttachment
from requests.adapters import HTTPAdapter

from trace_guard import Guard
from trace_guard.sdk.gateway import Gateway


def guarded() -> Any:
    """Spans of every common make below a root, one left open, and an error."""
    guard = Guard()

    @braintrust.traced
    def tool(word: str) -> str:
        return word.upper()

    with guard.invocation("fine", input={"n": 1}, tags=["t"]) as invocation:
        with braintrust.start_span(name="step", input=2) as span:
            span.log(output=tool("x"), metrics={"tokens": 3})
        braintrust.start_span(name="left open").start_span(name="within")
        braintrust.current_span().log(metadata={"k": "v"})
        invocation.set_output("done")
    with suppress(ValueError), guard.invocation("failed"):
        raise ValueError("no such order")
    return [invocation.delivery.verdict.value, braintrust.current_span() is braintrust.NOOP_SPAN]


def by_name() -> Any:
    """A project that is known by its name only, and links as soon as the id is."""
    guard = Guard(project="by name")
    with guard.invocation("root"):
        pass
    with guard.invocation("linked") as invocation:
        return [invocation.span.permalink() if hasattr(invocation.span, "permalink") else "", invocation.span.id,
                braintrust.org_id()]


def own_logger() -> Any:
    """The user's own logger, in a project and an organisation of its own."""
    logger = braintrust.init_logger(project="mine", org_name="second")
    guard = Guard(project="not this one")
    with guard.invocation("root"):
        logger.log_feedback(id=braintrust.current_span().id, scores={"good": 1})
    braintrust.flush()
    return True


def logs_in() -> Any:
    """A key that is given to login() before there is a guard."""
    braintrust.login(api_key="sk-planted-another")
    guard = Guard().start()
    with guard.invocation("root"), braintrust.start_span(name="step"):
        pass
    return None


class Adapter(HTTPAdapter):
    """What a user puts in for a proxy or for certificates of their own; counts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        self.seen.append([request.method, request.path_url.split("?")[0], options.get("timeout") is not None])
        return super().send(request, **options)


def chains(early: bool) -> Any:
    """An adapter of the user's own, set before the guard is started or after."""
    adapter = Adapter()
    if early:
        braintrust.set_http_adapter(adapter)
    guard = Guard().start()
    if not early:
        braintrust.set_http_adapter(adapter)
    attachment = braintrust.Attachment(data=b"content", filename="a.txt", content_type="text/plain")
    with guard.invocation("root"):
        braintrust.start_span(name="step", input=attachment).end()
    braintrust.flush()
    assert ReadonlyAttachment(attachment.reference).data == b"content"
    return sorted({tuple(one) for one in adapter.seen if "upload" not in one[1]})


def experiments() -> Any:
    """An experiment and a dataset, whose project is known by its name only, in a process with a guard."""
    guard = Guard(project="elsewhere").start()
    experiment = braintrust.init(project="evaluated", experiment="first")
    with experiment.start_span(name="case") as span:
        span.log(input=1, output=2, scores={"right": 1})
    dataset = braintrust.init_dataset(project="evaluated", name="cases")
    dataset.insert(input=1, expected=2, id="row-1")
    dataset.flush()
    experiment.flush()
    with guard.invocation("root"):
        pass
    return [experiment.id, dataset.id]


def takes_out() -> Any:
    """Closing the last guard puts the SDK back as it was."""
    adapter = Adapter()
    braintrust.set_http_adapter(adapter)
    guard = Guard()
    with guard.invocation("root"):
        pass
    guard.close()
    logger = braintrust.init_logger(project_id=PROJECT_ID)
    logger.start_span(name="unguarded").end()
    braintrust.flush()
    return ["POST", "/logs3"] in [one[:2] for one in adapter.seen]


def requests_of_rows() -> Any:
    """How many requests the SDK makes of the rows of an invocation."""
    guard = Guard().start()
    made, plain = [], Gateway.send

    def send(self: Gateway, request: Any, **options: Any) -> Any:
        made.append(request.url)
        return plain(self, request, **options)

    Gateway.send = send  # type: ignore[method-assign,assignment]
    with guard.invocation("root"), braintrust.start_span(name="step"):
        pass
    return len([url for url in made if url.endswith("/logs3")])


PROJECT_ID = "11111111-2222-3333-4444-555555555555"
SCENARIOS = {
    "guarded": guarded, "by_name": by_name, "own_logger": own_logger, "logs_in": logs_in,
    "chains_early": lambda: chains(True), "chains_late": lambda: chains(False),
    "experiments": experiments, "takes_out": takes_out, "requests_of_rows": requests_of_rows,
}

if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))
