"""The search for API keys at the end of a run finds them, and fails the run."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY, finds_in
from support import REPOSITORY

CASES = {
    "a file": ("tmp_path.joinpath('kept').write_text(f'a {KEY} b')", "kept"),
    "a file in a directory": ("(tmp_path / 'a').mkdir(); (tmp_path / 'a' / 'deep').write_bytes(KEY.encode())", "deep"),
    "a file of a module": ("tmp_path_factory.mktemp('shared').joinpath('kept').write_text(KEY)", "shared0"),
    "stdout": ("print(KEY)", "stdout"),
    "stderr": ("os.write(2, KEY.encode())", "stderr"),
    "a log line": ("logging.getLogger('x').warning('the key is %s', KEY)", "log"),
}


def run(place: Path, line: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest with one test, which consists of this line."""
    (place / "test_it.py").write_text(textwrap.dedent(f"""
        import logging, os
        KEY = "-".join(["sk", "planted", "1"])

        def test_it(tmp_path, tmp_path_factory):
            {line}
    """))
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "planted_keys", "-p", "no:cacheprovider", "--rootdir", place,
        "--basetemp", place / "temporary", *options, place / "test_it.py",
    ]
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "adapters", REPOSITORY / "tests")))
    return subprocess.run(
        list(map(str, command)), cwd=place, env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True, text=True, timeout=60, check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_key_that_is_left_behind_fails_the_run(tmp_path: Path, case: str) -> None:
    """A key in a file, or in what is captured of a test, fails a run whose tests have passed, and its place is told."""
    line, place = CASES[case]
    done = run(tmp_path, line)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "1 passed" in done.stdout
    told = done.stdout.partition("an API key was left behind")[2]
    assert place in told
    assert "sk-planted" not in told
    for path in finds_in(tmp_path):
        path.unlink()


def test_the_workers_are_searched_too(tmp_path: Path) -> None:
    """With several workers their files and output are searched as well."""
    done = run(tmp_path, "tmp_path.joinpath('kept').write_text(KEY); print(KEY)", "-n", "1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert all(word in done.stdout for word in ("popen-gw0", "stdout call"))
    for path in finds_in(tmp_path):
        path.unlink()


def test_a_run_that_leaves_nothing_passes(tmp_path: Path) -> None:
    """A run passes whose tests leave no key behind, or hand it to a program in a file that is named so."""
    assert run(tmp_path, "tmp_path.joinpath('settings.given').write_text(KEY)").returncode == 0


@pytest.mark.parametrize("data", [
    PLANTED_KEY.encode(), *(base64.b64encode(b"x" * before + PLANTED_KEY.encode()) for before in range(4)),
    PLANTED_KEY.encode("utf-16-le"), b"\0" * ((1 << 20) - 5) + PLANTED_KEY.encode(),
])
def test_keys_are_found_in_other_spellings(tmp_path: Path, data: bytes) -> None:
    """A key is found in base64, in UTF-16, and across the chunks in which files are read."""
    (tmp_path / "kept").write_bytes(b"before " + data + b" behind")
    assert list(finds_in(tmp_path)) == [tmp_path / "kept"]
    (tmp_path / "kept").unlink()


def test_what_is_no_file_does_no_harm(tmp_path: Path) -> None:
    """Named pipes, links and files of many gigabytes without data are passed over."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(PLANTED_KEY.encode())
    assert list(finds_in(tmp_path)) == [tmp_path / "sparse"]
    (tmp_path / "sparse").unlink()
