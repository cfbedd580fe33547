"""A pytest plugin that puts the middleware around every application of a suite, for ``tests/suites/run.py``."""

from __future__ import annotations

import functools
import sys
from typing import Any

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware
from trace_guard_lambda import guard_handler

GUARD = Guard(backend=MemoryBackend(), project="suites", flush="after-response")


def pytest_configure() -> None:
    for module, wrap in (
        ("flask", _flask), ("werkzeug.test", _werkzeug), ("starlette.applications", _starlette), ("mangum", _mangum),
    ):
        try:
            __import__(module)
        except ImportError:
            continue
        wrap(sys.modules[module])


def _flask(module: Any) -> None:
    plain = module.Flask.__call__

    @functools.wraps(plain)
    def call(self: Any, environ: Any, start_response: Any) -> Any:
        return GuardMiddleware(functools.partial(plain, self), guard=GUARD)(environ, start_response)

    module.Flask.__call__ = call


def _werkzeug(module: Any) -> None:
    plain = module.run_wsgi_app

    @functools.wraps(plain)
    def run_wsgi_app(app: Any, *args: Any, **keywords: Any) -> Any:
        return plain(GuardMiddleware(app, guard=GUARD), *args, **keywords)

    module.run_wsgi_app = run_wsgi_app


def _starlette(module: Any) -> None:
    plain = module.Starlette.build_middleware_stack

    @functools.wraps(plain)
    def build_middleware_stack(self: Any) -> Any:
        return AsyncGuardMiddleware(plain(self), guard=GUARD)

    module.Starlette.build_middleware_stack = build_middleware_stack


def _mangum(module: Any) -> None:
    module.Mangum.__call__ = guard_handler(guard=GUARD)(module.Mangum.__call__)
