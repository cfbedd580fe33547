"""What the whole package must get from ``trace_guard.system``."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# A process that imports nothing of the package; a browser, which must handle signals; the stand-ins for tests.
OTHERS = ("adapters/trace_guard_lambda/external/program.py", "trace_guard/ui/", "trace_guard/testing/")


def uses_of(module: str, name: str) -> list[str]:
    """The places in the package where code reads ``module.name``."""
    found = []
    for path in sorted([*(REPOSITORY / "trace_guard").rglob("*.py"), *(REPOSITORY / "adapters").rglob("*.py")]):
        place = path.relative_to(REPOSITORY).as_posix()
        if place.startswith(("trace_guard/system/", *OTHERS)):
            continue
        found += [
            f"{place}:{node.lineno}" for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and node.attr == name
            and isinstance(node.value, ast.Name) and node.value.id == module
        ]
    return found


def test_no_wait_reads_a_clock_that_tests_can_stop() -> None:
    """Durations and deadlines come from ``trace_guard.system.clock``."""
    assert uses_of("time", "monotonic") == []


def test_no_thread_of_ours_handles_signals() -> None:
    """Threads are ``trace_guard.system.threads.QuietThread``, but the SDK's publisher."""
    made = [place for place in uses_of("threading", "Thread") if not place.startswith("trace_guard/sdk/intake.py")]
    source = "\n".join((REPOSITORY / place.partition(":")[0]).read_text().splitlines()[int(place.partition(":")[2]) - 1]
                       for place in made)
    assert "threading.Thread(" not in source, made
