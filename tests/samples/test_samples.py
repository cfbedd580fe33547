"""Public handlers of many shapes, re-written: the same results plain and guarded, and what their traces say."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from functions_framework import _function_registry as registry
from sample_calls import outcome_of
from sample_cases import CASES, SAME, Case

import trace_guard
import trace_guard_azure
import trace_guard_gcf
import trace_guard_lambda
from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend

HERE = Path(__file__).parent

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated")  # calls of the Functions Framework's own


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """The process's own guard, which the samples use."""
    guard = Guard(backend=backend, dir=directory, project="samples", flush_timeout=15)
    monkeypatch.setattr(trace_guard.guard, "_default", guard)
    yield guard
    guard.close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that one sample leaves in the process reaches the next one. The thread has an event loop, which Mangum
    uses."""
    for variable in ("FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "FUNCTION_SOURCE"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "assistant")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("REGISTRY_MAP", "INPUT_TYPE_MAP"):
        monkeypatch.setattr(registry, name, {})
    monkeypatch.setattr(registry, "ASGI_FUNCTIONS", set())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def same(value: Any = None, **_: Any) -> Any:
    """A decorator, middleware or loop that changes nothing, bare or with keywords."""
    return value if value is not None else lambda function: function


def run(case: Case) -> Any:
    path = HERE / case.file
    module = None
    if not case.is_loaded_by_framework:
        spec = importlib.util.spec_from_file_location("sample", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["sample"] = module
        spec.loader.exec_module(module)
    return outcome_of(lambda: case.call(path, module))


def contains(value: Any, part: Any) -> bool:
    """True if a value has everything that a part of it says."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(key in value and contains(value[key], part[key]) for key in part)
    return bool(value == part)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_sample(case: Case, guard: Guard, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public handler gives the same result or exception guarded as plain, and its trace has the expected name, input,
    output, error, status and spans."""
    with monkeypatch.context() as plain:
        for package in (trace_guard_lambda, trace_guard_gcf, trace_guard_azure, trace_guard):
            for name in ("guard_handler", "guard_record", "guard_records", "guard_app", "guard_job", "GuardMiddleware",
                         "AsyncGuardMiddleware"):
                if hasattr(package, name):
                    plain.setattr(package, name, same)
        if "middleware" in case.title:
            plain.setattr(trace_guard_gcf, "AsyncGuardMiddleware", lambda app: app)
        expected = run(case)
    assert backend.rows() == []
    found = run(case)
    assert found == expected
    rows = backend.rows()
    (root,) = [row for row in rows if not row["span_parents"]]
    assert all(row["metrics"]["end"] >= row["metrics"]["start"] for row in rows)
    assert root["span_attributes"]["name"] == case.name
    assert contains(root.get("input"), case.input), root.get("input")
    output = found.get("result") if case.output is SAME else case.output
    assert contains(root.get("output"), output), root.get("output")
    assert (case.error in root["error"]) if case.error else ("error" not in root), root.get("error")
    assert root["metadata"]["trace_guard"]["outcome"] == case.outcome
    assert root["metadata"].get("http.response.status_code") == case.status
    assert [row["span_attributes"]["name"] for row in rows if row is not root] == list(case.spans)
