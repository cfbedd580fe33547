"""Fixtures of these tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures import *  # noqa: F403
from support import REPOSITORY

# The oldest that is supported, some between, of which 0.36 and 0.37 want the adapter before the login, and the newest
# that installs.
RELEASES = ["0.4.0", "0.26.0", "0.36.0", "newest"]


@pytest.fixture(scope="module", params=RELEASES)
def python(request: pytest.FixtureRequest) -> Path:
    """An interpreter with that release; its environment is kept for the next run."""
    home = REPOSITORY / ".venv-sdk" / f"{sys.version_info.major}.{sys.version_info.minor}-{request.param}"
    done, interpreter = home / "installed", home / "bin" / "python"
    if not done.exists():
        wanted = "braintrust" if request.param == "newest" else f"braintrust=={request.param}"
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
        installed = subprocess.run(pip, capture_output=True, text=True)
        assert installed.returncode == 0, f"{wanted} can't be installed here: {installed.stderr}"
        done.touch()
    return interpreter
