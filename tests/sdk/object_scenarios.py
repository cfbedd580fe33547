"""What a handler does with objects other than its own project's logs: ``object_scenarios.py NAME plain|guarded``.

Each scenario runs with the SDK alone and inside an invocation. Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import braintrust
from braintrust import set_http_adapter
from requests.adapters import HTTPAdapter

import trace_guard

GUARDED = sys.argv[2] == "guarded"


@contextlib.contextmanager
def handler(*, has_logger: bool = True) -> Iterator[Any]:
    """An invocation, or nothing around the code but a logger."""
    if GUARDED:
        with trace_guard.Guard(project="mine").invocation("invocation") as invocation:
            yield invocation
    else:
        if has_logger:
            braintrust.init_logger(project="mine")
        yield None
        braintrust.flush()


def evaluation() -> Any:
    """An ``Eval`` in a job, whose scorer looks at the spans of its own case."""
    def main() -> Any:
        return braintrust.Eval(
            "evals", data=lambda: [{"input": n, "expected": n} for n in range(4)], task=lambda n: n,
            scores=[lambda input, output, expected: 1.0 if output == expected else 0.0], experiment_name="exp",
        )

    if GUARDED:
        with trace_guard.Guard(project="jobs").job("nightly-eval", progress=False), trace_guard.step("evaluate"):
            result = main()
    else:
        result = main()
    return {name: score.score for name, score in result.summary.scores.items()}


def evaluation_without_logs() -> Any:
    """An ``Eval(no_send_logs=True)``, whose task starts a span and whose scorer counts the spans of its own case."""
    seen: list[Any] = []

    def task(n: int) -> int:
        with braintrust.start_span(name="in the task") as span:
            span.log(output=n)
            seen.append(type(span).__name__)
        return n

    def score(input: int, output: int, expected: int) -> float:
        seen.append(type(braintrust.current_span()).__name__)
        return 1.0 if output == expected else 0.0

    with handler(has_logger=sys.argv[3] == "logger"):
        if GUARDED and sys.argv[3] == "logger":
            braintrust.init_logger(project="mine")
        result = braintrust.Eval(
            "evals", data=lambda: [{"input": n, "expected": n} for n in range(3)], task=task, scores=[score],
            no_send_logs=True, max_concurrency=1,
        )
        braintrust.start_span(name="after").end()
    scores = {name: score.score for name, score in result.summary.scores.items()}
    return [scores, [[case.input, case.output, case.error] for case in result.results], sorted(seen)]


def invocations_without_parent() -> Any:
    """The parents of functions that are invoked without one: with an experiment that is current, in a span, after."""
    with handler():
        said = [braintrust.invoke(project_name="mine", slug="tell", input=1)]
        experiment = braintrust.init(project="evals", experiment="exp")
        said.append(braintrust.invoke(project_name="mine", slug="tell", input=2))
        with experiment.start_span(name="case"):
            said.append(braintrust.invoke(project_name="mine", slug="tell", input=3))
        experiment.flush()
    braintrust.flush()
    return said


def current_experiment() -> Any:
    """Spans while an experiment is current."""
    braintrust.init(project="evals", experiment="exp")
    with handler():
        with braintrust.start_span(name="case") as span:
            span.start_span(name="within").end()
        braintrust.traced(name="decorated")(lambda: None)()
        braintrust.start_span(name="left open")
    braintrust.flush()


def other_logger() -> Any:
    """Spans and rows of another project's logger."""
    with handler():
        other = braintrust.init_logger(project="other", set_current=False)
        with other.start_span(name="other's") as span:
            span.start_span(name="within").end()
        other.log(input=1, output=2, allow_concurrent_with_spans=True)
        braintrust.start_span(name="ours").end()
        other.start_span(name="left open")
    braintrust.flush()


def rows_of_a_logger() -> Any:
    """Rows that the user logs with a logger, without spans."""
    logger = braintrust.init_logger(project="mine")
    if GUARDED:
        with trace_guard.Guard(project="mine").invocation("invocation"):
            return isinstance(logger.log(input=1, output=2), str)
    return isinstance(logger.log(input=1, output=2), str)


def parents() -> Any:
    """Spans that continue another trace, each with a span of the handler's before it."""
    with handler():
        braintrust.start_span(name="before").end()
        for name, parent in json.loads(os.environ["PARENTS"]).items():
            with braintrust.start_span(name=name, parent=parent) as span:
                span.start_span(name=f"within {name}").end()
        with braintrust.logger.parent_context(json.loads(os.environ["PARENTS"])["experiment"]):
            braintrust.start_span(name="in a context").end()
    return "answer"


def reads() -> Any:
    """Rows that are read back after a flush."""
    with handler():
        dataset = braintrust.init_dataset(project="mine", name="cases")
        dataset.insert(input=1, expected=2, id="one")
        dataset.flush()
        fetched = [row["id"] for row in dataset.fetch()]
        experiment = braintrust.init(project="mine", experiment="exp", set_current=False)
        experiment.log(input=1, output=1, scores={"right": 1}, id="row")
        scores = {name: score.score for name, score in experiment.summarize().scores.items()}
        return [fetched, scores]


def hands_out() -> Any:
    """What a handler gives to others at a cold start, by a span, a user's logger, and one that continues a trace."""
    with handler() as invocation:
        span = invocation.span if GUARDED else braintrust.start_span(name="invocation")
        slug = span.export()
        with span.start_span(name="call") as call, braintrust.start_span(name="continued", parent=None) as other:
            logger = braintrust.init_logger(project="theirs", set_current=False)
            spans = (span, call, other)
            said = {
                "export": [slug, call.export(), other.export(), logger.export()],
                "link": [one.link() for one in spans],
                "headers": [one.inject({}) for one in spans if hasattr(one, "inject")],
                "otel": [one._get_otel_parent() for one in spans],
                "invoked": [
                    braintrust.invoke(project_name="theirs", slug="tell", input=1, parent=one)
                    for one in (*spans, logger, slug)
                ],
                "permalink": [call.permalink(), span.permalink(), braintrust.permalink(slug)],
            }
            call.start_span(name="same project", parent=os.environ["PARENT"]).end()
        span.end()
    return said


def opentelemetry() -> Any:
    """The ``braintrust.parent`` of OpenTelemetry's spans within spans of the SDK, and below an exported span."""
    from braintrust.otel import BraintrustSpanProcessor, context_from_span_export
    from opentelemetry.sdk.trace import TracerProvider

    seen = []

    class Recorder:
        def __init__(self, exporter: Any) -> None:
            pass

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append([span.name, span.attributes.get("braintrust.parent")])

        def on_end(self, span: Any) -> None:
            pass

        def shutdown(self) -> None:
            pass

    provider = TracerProvider()
    provider.add_span_processor(BraintrustSpanProcessor(SpanProcessor=Recorder))
    tracer = provider.get_tracer("tests")
    with handler(), contextlib.ExitStack() as stack:
        root = braintrust.current_span() if GUARDED else stack.enter_context(braintrust.start_span(name="invocation"))
        tracer.start_span("in the root")
        with braintrust.start_span(name="step") as step:
            tracer.start_span("in a step")
        for name, span in (("root", root), ("step", step)):
            tracer.start_span(f"below an exported {name}", context=context_from_span_export(span.export()))
    return seen


class Adapter(HTTPAdapter):
    """What a user puts in for a proxy; keeps what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str]] = []

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        self.seen.append((str(request.method), str(request.url), str(request.body)))
        return super().send(request, **options)


def sets_an_adapter() -> Any:
    """An adapter that a handler sets at a cold start, and all that the SDK then asks for."""
    adapter, setter = Adapter(), {"module": braintrust, "name": None}[sys.argv[3]]
    with handler():
        braintrust.start_span(name="before").end()
        (set_http_adapter if setter is None else setter.set_http_adapter)(adapter)
        attachment = braintrust.Attachment(data=b"content", filename="a.txt", content_type="text/plain")
        braintrust.start_span(name="after", input=attachment).end()
        dataset = braintrust.init_dataset(project="theirs", name="cases")
        dataset.insert(input=1, expected=2, id="one")
        dataset.flush()
        experiment = braintrust.init(project="theirs", experiment="exp", set_current=False)
        experiment.log(input=1, output=1, scores={"right": 1}, id="row")
        experiment.flush()
        logger = braintrust.init_logger(project="by name", set_current=False)
        logger.start_span(name="of the logger").end()
        said = [next(iter(dataset.fetch()))["id"], logger.project.name]
    braintrust.flush()
    return [said, adapter.seen]


def asks() -> Any:
    """A prompt, a function and rows, of a server whose first answer to each is a fault."""
    with handler():
        prompt = braintrust.load_prompt(project="mine", slug="greeting")
        said = [prompt.slug, braintrust.invoke(project_name="mine", slug="echo", input="hello")]
        dataset = braintrust.init_dataset(project="mine", name="cases")
        return [*said, list(dataset.fetch())]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
