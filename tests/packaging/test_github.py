"""The workflows and issue forms of ``.github``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

GITHUB = REPOSITORY / ".github"
SCHEMAS = {
    "github-workflows": sorted((GITHUB / "workflows").glob("*.yml")),
    "github-issue-forms": sorted(file for file in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if file.stem != "config"),
    "github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema: str) -> None:
    """Each workflow and form is valid by the schema of its kind."""
    assert SCHEMAS[schema]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, SCHEMAS[schema])],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", SCHEMAS["github-workflows"], ids=lambda path: path.stem)
def test_workflows_use_targets_that_exist(workflow: Path) -> None:
    """Each ``make`` target that a workflow runs is one of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", workflow.read_text())) <= targets


@pytest.mark.parametrize("form", SCHEMAS["github-issue-forms"], ids=lambda path: path.stem)
def test_forms_ask_for_the_doctor(form: Path) -> None:
    """Each form asks for what ``trace-guard doctor --json`` prints."""
    assert "trace-guard doctor --json" in form.read_text()
