"""Wrong uses of decorators and keywords: refused at import with the fix, or put right."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trace_guard import Deadline, Guard, Settings, SettingsError, guard_job
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import guard_handler as azure_handler
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware
from trace_guard_gcf import guard_handler as gcf_handler
from trace_guard_lambda import guard_handler as lambda_handler
from trace_guard_lambda import guard_record


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(directory: Path, backend: MemoryBackend) -> Iterator[Guard]:
    guard = Guard(Settings.from_env({}, dir=directory, grace=timedelta(minutes=1)), backend=backend)
    yield guard
    guard.close(timeout=1)


class Handler:
    def __call__(self, event: Any, context: Any) -> None: ...


HANDLERS: dict[str, Any] = {"lambda": lambda_handler, "gcf": gcf_handler, "azure": azure_handler}
DECORATORS = {**HANDLERS, "record": guard_record, "job": guard_job}


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("used_as", ["bare", "with keywords"])
@pytest.mark.parametrize("value", ["support-bot", 3, None, Handler], ids=["text", "number", "none", "class"])
def test_what_is_no_function_is_refused(decorator: str, used_as: str, value: Any) -> None:
    """A text, a number, None or a class in the place of the function is refused where it stands, on every platform."""
    decorate = DECORATORS[decorator] if used_as == "bare" else DECORATORS[decorator](name="ask")
    with pytest.raises(TypeError) as refusal:
        decorate(value)
    said = str(refusal.value)
    assert decorator == "job" or "guard_" in said
    assert (value.__name__ if value is Handler else repr(value)) in said
    if value == "support-bot":
        assert "name='support-bot'" in said


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_decorator_may_be_called_without_keywords(decorator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``@guard_handler()`` is the same as ``@guard_handler``."""
    monkeypatch.setenv("TRACE_GUARD_DISABLED", "true")
    monkeypatch.setattr("trace_guard.guard._default", None)

    def function(event: Any, context: Any) -> int:
        return event + context

    guarded = DECORATORS[decorator]()(function)
    assert guarded.__name__ == "function"


@pytest.mark.parametrize("decorator", [*HANDLERS, "job"])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [("guard", "default"), ("guard", Guard), ("name", 3), ("tags", 3), ("tags", [1]), ("metadata", "prod"),
     ("capture_input", "perhaps"), ("flush", "sometimes")],
)
def test_a_keyword_of_the_wrong_kind_is_refused(decorator: str, keyword: str, value: Any) -> None:
    """The keywords of every decorator are checked when the module is imported. The error names the keyword."""
    with pytest.raises(SettingsError, match=f"^{keyword}="):
        DECORATORS[decorator](**{keyword: value})(lambda event, context: None)


def test_a_job_is_guarded_once(guard: Guard) -> None:
    """A second ``guard_job`` on a function is refused: its keywords would have no effect."""
    with pytest.raises(TypeError, match="main is guarded by guard_job already: remove one of the two"):

        @guard_job(guard=guard, name="nightly")
        @guard_job(guard=guard)
        def main() -> None: ...


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


def test_a_middleware_takes_its_own_kind_of_application() -> None:
    """Each middleware takes applications of its own kind: functions, methods, objects, and any callable whose
    signature says nothing."""
    for app in (wsgi, Wsgi(), Wsgi().__call__, lambda *args: []):
        assert GuardMiddleware(app)
    for app in (asgi, Asgi(), Asgi().__call__, lambda *args: asgi(*args)):
        assert AsyncGuardMiddleware(app)


@pytest.mark.parametrize("app", [asgi, Asgi(), Asgi().__call__, lambda scope, receive, send: None])
def test_an_asgi_application_is_not_for_wsgi(app: Any) -> None:
    """The WSGI middleware around an ASGI application is refused and names the other one."""
    with pytest.raises(TypeError, match=r"is one of ASGI: use AsyncGuardMiddleware"):
        GuardMiddleware(app)


@pytest.mark.parametrize("app", [wsgi, Wsgi(), Wsgi().__call__])
def test_a_wsgi_application_is_not_for_asgi(app: Any) -> None:
    """The ASGI middleware around a WSGI application is refused and names the other one."""
    with pytest.raises(TypeError, match=r"is one of WSGI: use GuardMiddleware"):
        AsyncGuardMiddleware(app)


@pytest.mark.parametrize("app", [None, "app:app", 3, Asgi, lambda request: None])
def test_what_is_no_application_is_refused(app: Any) -> None:
    """Both middlewares refuse what is no application, and say what to write."""
    with pytest.raises(TypeError, match=r"write app.wsgi_app = GuardMiddleware"):
        GuardMiddleware(app)
    with pytest.raises(TypeError, match=r"write app.add_middleware\(AsyncGuardMiddleware\)"):
        AsyncGuardMiddleware(app)


@pytest.mark.parametrize("given", [30, 30.0, timedelta(seconds=30), Deadline.after(30)])
def test_a_deadline_takes_the_obvious_forms(guard: Guard, given: Any) -> None:
    """A deadline is a Deadline, a number of seconds from now, or a timedelta."""
    given = Deadline.after(30) if isinstance(given, Deadline) else given
    with guard.invocation("ask", deadline=given) as invocation:
        assert 25 < invocation.time_left <= 30
        invocation.deadline = timedelta(minutes=1)
        assert 55 < invocation.time_left <= 60


@pytest.mark.parametrize("given", ["soon", -1, float("nan"), True, object()])
def test_a_bad_deadline_is_reported(
    guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    """A deadline that is none is reported by name, and the call is traced without one."""
    with guard.invocation("ask", deadline=given) as invocation:
        assert invocation.time_left == float("inf")
    assert [row["span_attributes"]["name"] for row in backend.rows()] == ["ask"]
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("trace-guard: deadline= is not accepted: ")


def test_lengths_of_time_may_be_timedeltas(guard: Guard) -> None:
    """Every keyword that takes seconds takes a timedelta too."""
    assert guard.settings.grace == 60.0
    assert guard.flush(timedelta(seconds=5))
    with guard.job("nightly", grace=timedelta(seconds=20), heartbeat=timedelta(seconds=5)) as job:
        assert job.is_live
    began = time.monotonic()
    assert 4 < Deadline.after(timedelta(seconds=5)).at - began < 6


def test_one_tag_may_be_a_text(guard: Guard, backend: MemoryBackend) -> None:
    """A single tag may be given as a text. It is not taken apart."""
    with guard.invocation("ask", tags="production"):
        pass
    lambda_handler(guard=guard, tags="beta")(lambda event, context: None)({}, None)
    assert [row["tags"] for row in backend.rows()] == [["production"], ["beta"]]
