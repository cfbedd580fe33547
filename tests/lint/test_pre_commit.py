"""The hook for pre-commit."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from trace_guard.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

REPOSITORY = Path(__file__).parents[2]


def test_the_hook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hook has what pre-commit requires, installs what the extra does, and fails for a file with a finding."""
    (hook,) = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (hook["id"], hook["language"], hook["types"]) == ("trace-guard-lint", "python", ["python"])
    assert hook["name"]
    assert hook["additional_dependencies"] == project["optional-dependencies"]["lint"]
    program, *arguments = shlex.split(hook["entry"])
    assert program in project["scripts"]
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("import braintrust\nwith braintrust.start_span('a'):\n    pass\n")
    bad.write_text("import braintrust\nspan = braintrust.start_span('a')\n")
    assert main([*arguments, str(good)]) == 0
    assert main([*arguments, str(good), str(bad)]) == 1
    assert "bad.py:2:8: TG001" in capsys.readouterr().out
