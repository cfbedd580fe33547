"""The search for API keys at the end of a run finds them, and fails the run."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY, finds_in
from support import REPOSITORY

LINES = {
    "test_file": "tmp_path.joinpath('kept').write_text(f'a {KEY} b')",
    "test_deep": "(tmp_path / 'a').mkdir(); (tmp_path / 'a' / 'deep').write_bytes(KEY.encode())",
    "test_module": "tmp_path_factory.mktemp('shared').joinpath('kept').write_text(KEY)",
    "test_stdout": "print(KEY)",
    "test_stderr": "os.write(2, KEY.encode())",
    "test_log": "logging.getLogger('x').warning('the key is %s', KEY)",
}
PLACES = (
    "test_file0/kept", "test_deep0/a/deep", "shared0/kept", "test_stdout: Captured stdout call",
    "test_stderr: Captured stderr call", "test_log: Captured log call",
)


def run(place: Path, lines: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with one-line tests."""
    code = ["import logging, os", "KEY = '-'.join(['sk', 'planted', '1'])"]
    for name, line in lines.items():
        code += [f"def {name}(tmp_path, tmp_path_factory):", f"    {line}"]
    (place / "test_it.py").write_text("\n".join(code))
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "planted_keys", "-p", "no:cacheprovider", "--rootdir", place,
        "--basetemp", place / "temporary", *options, place / "test_it.py",
    ]
    env = {
        **os.environ, "PYTHONPATH": str(REPOSITORY / "tests"), "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    try:
        return subprocess.run(
            list(map(str, command)), cwd=place, env=env, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        for path in finds_in(place):  # the run that this test belongs to is not to find them
            path.unlink()


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "workers"])
def test_a_key_that_is_left_behind_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A key in a file or in captured output fails a run whose tests passed, and the message says where it is."""
    done = run(tmp_path, LINES, *options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert f"{len(LINES)} passed" in done.stdout
    told = done.stdout.partition("an API key was left behind")[2]
    assert [place for place in PLACES if place not in told] == []
    assert "sk-planted" not in told


def test_a_run_that_leaves_nothing_passes(tmp_path: Path) -> None:
    """A run passes if its tests leave no key, or leave it only in a file that is named for it."""
    lines = {"test_it": "tmp_path.joinpath('settings.given').write_text(KEY)"}
    assert run(tmp_path, lines).returncode == 0


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
    """Named pipes, links and huge sparse files are skipped."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(PLANTED_KEY.encode())
    assert list(finds_in(tmp_path)) == [tmp_path / "sparse"]
    (tmp_path / "sparse").unlink()
