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


WRONG = """\
from trace_guard import process

for result in process(["a"], len):
    if result.ok:
        result.value.upper()
"""


@pytest.fixture(scope="module", params=CHECKERS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a type checker prints of each of the two files, run as a user would, in another directory."""
    place = tmp_path_factory.mktemp("wrong")
    (place / "wrong.py").write_text(WRONG)
    # pyright's package fetches the checker itself from npm once, and speaks about newer releases.
    done = subprocess.run(
        [sys.executable, "-m", *CHECKERS[request.param], str(USER_CODE), str(place / "wrong.py")],
        capture_output=True, text=True, timeout=300, env={
            **os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "MYPY_CACHE_DIR": str(Path(".mypy_cache")),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    lines = [line for line in done.stdout.splitlines() if "error" in line]
    assert lines, done.stdout + done.stderr
    return {name: [line for line in lines if name in line] for name in (USER_CODE.name, "wrong.py")}


def test_user_code_is_accepted(found: dict[str, list[str]]) -> None:
    """What the documentation shows is accepted by mypy's strict mode and by pyright."""
    assert found[USER_CODE.name] == []


def test_a_wrong_use_of_a_result_is_found(found: dict[str, list[str]]) -> None:
    """The value of a result has the type of the function, so a wrong use of it is an error for both."""
    (error,) = found["wrong.py"]
    assert '"int"' in error
    assert "upper" in error
