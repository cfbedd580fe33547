"""Fixtures of these tests."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures import *  # noqa: F403
from support import REPOSITORY

# The oldest that is supported, some between, of which 0.36 and 0.37 want the adapter before the login, and the newest
# that installs.
RELEASES = ["0.4.0", "0.26.0", "0.36.0", "newest"]
UV = [sys.executable, "-m", "uv"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of what makes releases differ run with each; the rest with the newest, or each with
    ``make releases``."""
    if "python" in metafunc.fixturenames:
        differ = metafunc.module.__name__ == "test_sdk_releases" or metafunc.config.getoption("all_releases")
        metafunc.parametrize("python", RELEASES if differ else ["newest"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """An interpreter with that release; its environment is kept for the next run."""
    home = REPOSITORY / ".venv-sdk" / f"{sys.version_info.major}.{sys.version_info.minor}-{request.param}"
    home.mkdir(parents=True, exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may be shared among processes
        release = "" if request.param == "newest" else f"=={request.param}"
        return _installed(home, f"braintrust[otel]{release}")


def _installed(home: Path, wanted: str) -> Path:
    done, interpreter = home / "installed", home / "bin" / "python"
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        install = [*UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(interpreter), wanted]
        installed = subprocess.run(install, capture_output=True, text=True)
        assert installed.returncode == 0, f"{wanted} can't be installed here: {installed.stderr}"
        done.write_text(wanted)
    return interpreter
