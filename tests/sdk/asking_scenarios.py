"""What a handler asks the server through the SDK: ``asking_scenarios.py NAME plain|guarded``.

Each scenario runs with the SDK alone and inside the first invocation of a process. Prints one line of JSON, which the
tests compare.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import braintrust
from requests.adapters import HTTPAdapter

import trace_guard

GUARDED = sys.argv[2] == "guarded"


@contextlib.contextmanager
def handler() -> Iterator[Any]:
    """An invocation, or nothing around the code."""
    if GUARDED:
        with trace_guard.Guard(project="mine").invocation("invocation") as invocation:
            yield invocation
    else:
        braintrust.init_logger(project="mine")
        yield None
        braintrust.flush()


def raised(call: Callable[[], Any]) -> str:
    """The type and the text of the exception, or what the call returned."""
    try:
        return f"returned {call()}"
    except Exception as error:  # noqa: BLE001 - whatever it is, the tests compare it
        return f"{type(error).__name__}: {error}"


def wrong_key() -> Any:
    """Logins with a key that the server refuses, and with an organisation that the key does not have."""
    with handler():
        said = [
            raised(lambda: braintrust.login(api_key="key-of-nobody")),
            raised(lambda: braintrust.login(org_name="nobody's")),
            raised(lambda: braintrust.init_dataset(project="p", name="d", api_key="key-of-nobody").id),
        ]
        braintrust.login()
        braintrust.start_span(name="step").end()
    return said


def wrong_key_in_environment() -> Any:
    """The login and the first use of the key of the environment, which the server refuses."""
    with handler():
        return [raised(braintrust.login), raised(lambda: braintrust.init_logger(project="p", set_current=False).id)]


def login_before_a_deadline() -> Any:
    """A login within an invocation that has little time left."""
    deadline = trace_guard.Deadline.after(1.5)
    with trace_guard.Guard(project="mine").invocation("invocation", deadline=deadline):
        braintrust.login()
        return deadline.remaining


def names_and_ids() -> Any:
    """The names and ids that loggers, experiments and datasets say, also before anything else is known."""
    early = braintrust.init_logger(project="early", set_current=False)
    with handler():
        braintrust.start_span(name="before").end()
        by_name = braintrust.init_logger(project="by name", set_current=False)
        by_name.start_span(name="of the logger").end()
        by_id = braintrust.init_logger(project_id=os.environ["KNOWN_ID"], set_current=False)
        by_id.start_span(name="of the logger by id").end()
        by_both = braintrust.init_logger(project="label", project_id=os.environ["KNOWN_ID"], set_current=False)
        current = braintrust.current_logger()
        said = [
            [one.id, one.project.id, one.project.name, one.org_id]
            for one in (early, by_name, by_id, by_both, current)
        ]
        dataset = braintrust.init_dataset(project="of a dataset", name="d")
        experiment = braintrust.init(project="of an experiment", experiment="e", set_current=False)
        said += [[one.id, one.project.id, one.project.name] for one in (dataset, experiment)]
        return [*said, braintrust.org_id()]


def organisation_first() -> Any:
    """The organisation, and a link, that are asked for before anything else is known."""
    with handler():
        if not GUARDED:
            braintrust.login()
        return [braintrust.org_id(), braintrust.start_span(name="linked").permalink().partition("&id=")[0]]


def limits() -> Any:
    """What the server says of its limits, and a span that is larger than they are."""
    with handler():
        braintrust.login()
        version = braintrust.logger.api_conn().get_json("version")
        with braintrust.start_span(name="large") as span:
            span.log(input="x" * 8_000_000, output="y", metadata={"kept": 1})
        braintrust.start_span(name="small", input="z").end()
    return version


def timeouts() -> Any:
    """The timeouts that reach the network for a function that is invoked and a prompt; infinity is -1."""
    seen = []
    plain = HTTPAdapter.send

    def send(self: HTTPAdapter, request: Any, **options: Any) -> Any:
        if "logs3" not in request.url and "login" not in request.url:
            timeout = options.get("timeout")
            seen.append([request.path_url.partition("?")[0], -1 if timeout is None else timeout])
        return plain(self, request, **options)

    HTTPAdapter.send = send  # type: ignore[method-assign,assignment]
    with handler():
        braintrust.invoke(project_name="mine", slug="slow", input="hello")
        _ = braintrust.load_prompt(project="mine", slug="greeting").slug
    return sorted(seen)


def slow_function() -> Any:
    """A function that takes longer than any wait of the guard's."""
    with handler():
        began = time.monotonic()
        said = braintrust.invoke(project_name="mine", slug="slow", input="hello")
        return [said, time.monotonic() - began >= float(os.environ["SECONDS"])]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
