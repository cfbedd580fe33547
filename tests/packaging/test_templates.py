"""The examples' templates for AWS SAM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATES = sorted(EXAMPLES.glob("lambda_*/template.yaml"))


def lint(*templates: Path) -> subprocess.CompletedProcess[str]:
    program = "from cfnlint.runner import main; main()"
    command = [sys.executable, "-c", program, "--non-zero-exit-code", "warning", *map(str, templates)]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_example_can_be_deployed() -> None:
    """The template of each Lambda example is one that CloudFormation takes, by AWS's own linter."""
    assert [path.parent.name for path in TEMPLATES] == [
        "lambda_agent", "lambda_http_powertools", "lambda_layer", "lambda_sqs",
    ]
    done = lint(*TEMPLATES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_would_say_so(tmp_path: Path) -> None:
    """A template with a property that does not exist is found out."""
    broken = tmp_path / "template.yaml"
    broken.write_text(TEMPLATES[0].read_text().replace("MemorySize", "MemorySizes"))
    assert lint(broken).returncode != 0


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.parent.name))
def test_the_handler_is_there(template: Path) -> None:
    """Each template names a handler that its example has."""
    handler = next(line.split()[-1] for line in template.read_text().splitlines() if "Handler:" in line)
    module, _, function = handler.partition(".")
    assert f"def {function}(" in (template.parent / f"{module}.py").read_text()
