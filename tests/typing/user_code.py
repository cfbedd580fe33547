"""What users write, for type checkers: this file is checked and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from trace_guard import Deadline, Guard, Result, configure, current_job, guard_job, process, recover, step
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware
from trace_guard_gcf import guard_handler as gcf_handler
from trace_guard_lambda import guard_handler, guard_record, guard_records


@guard_handler(project="support-bot", tags=["beta"])
def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    for record in guard_records(event["Records"]):
        print(record)
    return {"answer": "42"}


@guard_handler
async def later(event: dict[str, Any], context: object) -> int:
    return len(event)


@gcf_handler
def view(request: object) -> str:
    return "ok"


@guard_record
def sort_message(record: dict[str, str]) -> int:
    return len(record)


def ask(prompt: str) -> int:
    return len(prompt)


def save(prompt: str, value: int) -> None: ...


@guard_job(name="nightly-eval", grace=timedelta(seconds=20), fail_if=0.1)
def main() -> None:
    with step("load"):
        prompts = ["a", "b"]
    for result in process(prompts, ask, workers=16):
        if result.ok:
            save(result.item, result.value)


@guard_job(fail_if=lambda counts: counts["failed"] > 3)
def by_errors() -> dict[str, int]:
    for result in process(["a", "b"], ask):
        if result.error is not None:
            assert_type(result.error, Exception)
            raise result.error
        assert_type(result.value, int)
        save(result.item, result.value)
    return process([1, 2], str).run()


def shown(result: Result[str, int]) -> str:
    return f"{result.item}: {result.value + 1 if result.ok else result.error}"


guard = Guard(project="support-bot", flush_timeout=1)
other: Guard = configure(backend="local")


def invocations(question: str) -> None:
    with guard.invocation("ask", deadline=Deadline.after(30), input=question) as invocation:
        invocation.span.log(metadata={"tenant": "acme"})
        invocation.set_output("answer")
    for deadline in (30, 0.5, timedelta(minutes=1)):
        with guard.invocation("ask", deadline=deadline):
            current_job().count("asked")
    recover(timeout=timedelta(seconds=5))


@guard.wrap
def generates(count: int) -> Iterator[int]:
    yield from range(count)


@guard.wrap
async def generates_later(count: int) -> AsyncIterator[int]:
    yield count


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


applications = (AsyncGuardMiddleware(asgi), GuardMiddleware(wsgi))
assert_type(handler({}, None), dict[str, str])
assert_type(sort_message({}), int)
assert_type(main(), None)
assert_type(generates(3), Iterator[int])
