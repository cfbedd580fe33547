"""User code that ends in every way that code can end. It does not use trace-guard."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import braintrust

RESULT = {"answer": 42}
raised: list[BaseException] = []
"""What was raised last, to be compared with what arrives."""


def fail(error: BaseException) -> NoReturn:
    raised[:] = [error]
    raise error


def returns() -> Any:
    return RESULT


def returns_nothing() -> None:
    return None


def raises_exception() -> Any:
    fail(ValueError("no such order"))


def raises_from_another() -> Any:
    try:
        return {}["order"]
    except KeyError as error:
        raised[:] = [ValueError("no such order"), error]
        raise raised[0] from error


def raises_while_handling() -> Any:
    try:
        return {}["order"]
    except KeyError as error:
        raised[:] = [ValueError("no such order"), error]
        raise raised[0]  # noqa: B904 - as it happens in users' code


def raises_an_error_that_has_no_text() -> Any:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not to be read")

    fail(Silent())


def exits() -> Any:
    raised[:] = [SystemExit(3)]
    raise raised[0]


def exits_the_usual_way() -> Any:
    sys.exit(3)


def is_interrupted() -> Any:
    fail(KeyboardInterrupt())


def is_cancelled() -> Any:
    fail(asyncio.CancelledError("enough"))


@braintrust.traced
def step(word: str) -> str:
    return step_within(word).upper()


@braintrust.traced
def step_within(word: str) -> str:
    return word[::-1]


def traces_steps() -> Any:
    with braintrust.start_span("by hand") as span:
        span.log(output="seen")
    return step("abc")


def raises_within_a_step() -> Any:
    with braintrust.start_span("by hand"):
        fail(ValueError("no such order"))


def leaves_spans_open() -> Any:
    outer = braintrust.start_span("outer")
    outer.start_span("inner").start_span("innermost")
    with braintrust.start_span("closed"):
        braintrust.start_span("below a closed one")
    return RESULT


def leaves_spans_open_and_raises() -> Any:
    braintrust.start_span("outer").start_span("inner")
    fail(ValueError("no such order"))


def leaves_spans_open_in_threads() -> Any:
    here = braintrust.current_span()
    threads = [
        threading.Thread(target=lambda name=name: here.start_span(name).start_span(f"below {name}"))
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return RESULT


def flushes_and_goes_on() -> Any:
    span = braintrust.start_span("flushed")
    braintrust.flush()
    span.end()
    return RESULT


def reads_the_journal() -> Any:
    """The open invocations and spans in the journals on disk: the number of invocations with this root, and the
    spans."""
    from trace_guard.journal.format import Kind
    from trace_guard.journal.reader import read_entries

    entries = [
        entry for path in Path(os.environ["TRACE_GUARD_DIR"], "journals").glob("[!.]*") for entry in read_entries(path)
    ]
    root = braintrust.current_span()
    rows = [json.loads(entry.payload) for entry in entries if entry.kind == Kind.ROW]
    started = [row["id"] for row in rows if "start" in row.get("metrics", {})]
    ended = {row["id"] for row in rows if "end" in row.get("metrics", {})}
    invocations = [json.loads(entry.payload)["root"] for entry in entries if entry.kind == Kind.INVOCATION]
    return {
        "invocations": invocations.count(root.id),
        "open": ["root" if row_id == root.id else row_id for row_id in started if row_id not in ended],
    }


def nests_an_invocation() -> Any:
    """A library that guards its own unit of work, called from a guarded function."""
    from trace_guard import default_guard

    with default_guard().invocation("nested", input=1) as nested:
        nested.set_output(2)
        with braintrust.start_span("below nested"):
            pass
    return RESULT


def fails_in_a_nested_invocation() -> Any:
    from trace_guard import default_guard

    try:
        with default_guard().invocation("nested"):
            raise LookupError("nothing there")
    except LookupError:
        return RESULT


def calls_a_guarded_function() -> Any:
    from trace_guard import default_guard

    return default_guard().wrap(step)("abc")
