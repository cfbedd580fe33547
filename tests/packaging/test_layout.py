"""What importing the packages costs and brings, and where they lie."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import trace_guard
import trace_guard_azure
import trace_guard_gcf
import trace_guard_lambda
import trace_guard_ray

BOTH = "import trace_guard, trace_guard_lambda"


def loaded_by(code: str) -> set[str]:
    """The modules that an interpreter has after running the code, and not before."""
    program = f"import sys, json; before = set(sys.modules)\n{code}\nprint(json.dumps([*set(sys.modules) - before]))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", program], text=True)))


def test_an_adapter_imports_no_sdk_of_its_platform() -> None:
    """Importing the Lambda adapter loads no cloud SDK, no runtime client, no SQLite and no Rich, and the SDK of
    Braintrust only when a handler is guarded."""
    heavy = {"boto3", "botocore", "awslambdaric", "sqlite3", "rich", "urllib3", "requests", "braintrust"}
    assert loaded_by(BOTH) & heavy == set()
    assert loaded_by("import braintrust") >= {"braintrust", "requests", "urllib3"}  # else this would say nothing


def test_importing_costs_next_to_nothing() -> None:
    """Importing trace_guard and its Lambda adapter takes a few milliseconds on top of importing braintrust."""
    program = f"import time, braintrust\nbegan = time.process_time()\n{BOTH}\nprint(time.process_time() - began)"
    took = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(5)]
    # What others do on the machine only ever adds to it. A loose bound; `make bench` measures it.
    assert min(took) < 0.06, took


def test_the_packages_are_typed() -> None:
    """All packages tell type checkers that they are typed, and are imported by their own names."""
    for package in (trace_guard, trace_guard_azure, trace_guard_gcf, trace_guard_lambda, trace_guard_ray):
        assert package.__file__ is not None
        assert (Path(package.__file__).parent / "py.typed").exists()
        assert package.__name__ == Path(package.__file__).parent.name
