"""User code keeps its types under mypy and pyright."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USER_CODE = Path(__file__).with_name("user_code.py")
CHECKERS = {
    "mypy": ["mypy", "--strict", "--config-file=", "--python-version=3.10"],
    "pyright": ["pyright", "--pythonversion=3.10", f"--pythonpath={sys.executable}"],
}


def check(checker: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a type checker as a user would, in another directory than the project's."""
    # pyright's package fetches the checker itself from npm once, and speaks about newer releases.
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "MYPY_CACHE_DIR": str(Path(".mypy_cache"))}
    return subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], str(place)], capture_output=True, text=True, timeout=300,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("checker", CHECKERS)
def test_user_code_is_accepted(checker: str) -> None:
    """What the documentation shows is accepted by mypy's strict mode and by pyright."""
    done = check(checker, USER_CODE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_wrong_use_of_a_result_is_found(checker: str, tmp_path: Path) -> None:
    """The value of a result has the type of the function, so a wrong use of it is an error for both."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from trace_guard import process\n\n"
        "for result in process(['a'], len):\n    if result.ok:\n        result.value.upper()\n"
    )
    done = check(checker, wrong)
    assert done.returncode == 1
    assert '"int"' in done.stdout
    assert "upper" in done.stdout
