"""The examples of docs/testing-your-code.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing-your-code.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.usefixtures("freezable")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is a test that passes as it stands on the page."""
    monkeypatch.setenv("TRACE_GUARD_DIR", str(tmp_path))
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[number], "testing-your-code.md", "exec"), names)
    tests = [found for name, found in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()
