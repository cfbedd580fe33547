"""``trace-guard layer``: the contents of the zip, and the messages of failed builds."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = [version for version in ("3.11", "3.12", "3.13") if version != THIS][:2]
TOPS = {"extensions", "python", "trace-guard-exec"}


def layer(*options: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trace_guard", "layer", *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more})


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A layer without dependencies, and the command's output."""
    output = tmp_path_factory.mktemp("layer") / "new" / "layer.zip"
    pythons = [f"--python={version}" for version in OTHERS]
    done = layer("--no-dependencies", *pythons, "--arch", "arm64", "--output", str(output))
    assert (done.returncode, done.stderr) == (0, "")
    return output, done.stdout


def test_it_holds_the_packages_and_the_programs(bare: tuple[Path, str]) -> None:
    """The layer has both packages, the extension and the wrapper, and only the last two are executable."""
    entries = zipfile.ZipFile(bare[0]).infolist()
    names = {entry.filename for entry in entries}
    assert {name.split("/")[0] for name in names} == TOPS
    assert {name.split("/")[1] for name in names if name.startswith("python/")} == {"trace_guard", "trace_guard_lambda"}
    assert {"python/trace_guard/py.typed", "python/trace_guard_lambda/external/program.py"} <= names
    modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
    assert {name for name, mode in modes.items() if mode == 0o100755} == {"extensions/trace-guard", "trace-guard-exec"}
    assert set(modes.values()) == {0o100755, 0o100644}
    assert not [name for name in names if name.endswith((".pyc", ".orig")) or "__pycache__" in name]
    assert f"functions on Python {OTHERS[0]} start faster if this command is run on Python {OTHERS[0]}" in bare[1]


def test_what_is_built_twice_is_the_same(tmp_path: Path) -> None:
    """Two builds of one release are equal to the byte, and include unchecked bytecode."""
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    for output in (first, second):
        assert layer("--no-dependencies", "--output", str(output)).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    archive = zipfile.ZipFile(first)
    names = archive.namelist()
    compiled = [name for name in names if name.endswith(".pyc")]
    assert len(compiled) == len([name for name in names if name.endswith(".py")])
    # PEP 552: flags 1 means an unchecked hash.
    assert {archive.read(name)[4:8] for name in compiled} == {b"\x01\x00\x00\x00"}
    own = [archive.read(name) for name in compiled if "external/__pycache__/process" in name]
    assert [b"/opt/python/trace_guard_lambda/external/process.py" in code for code in own] == [True]


def test_it_says_what_was_built_and_what_comes_next(bare: tuple[Path, str]) -> None:
    """The command prints the size, the number of files, and how to publish and use the layer."""
    output, said = bare
    files = len(zipfile.ZipFile(output).infolist())
    assert f"built {output}: " in said
    assert f"{files} files" in said
    assert f"fileb://{output}" in said
    assert f"--compatible-runtimes python{OTHERS[0]} python{OTHERS[1]} --compatible-architectures arm64" in said
    assert "AWS_LAMBDA_EXEC_WRAPPER=/opt/trace-guard-exec" in said
    assert "must include braintrust" in said


@pytest.mark.parametrize(
    ("options", "environment", "code", "words"),
    [
        (["--python", "2.7"], {}, 2, "'2.7' is not a Python version from 3.10 on, such as 3.12"),
        (["--arch", "mips"], {}, 2, "invalid choice: 'mips'"),
        (["--output", "/proc/no/layer.zip", "--no-dependencies"], {}, 1, "/proc/no/layer.zip can't be written"),
        (["--python", "3.12"], {"PIP_NO_INDEX": "1"}, 1, "not collect the dependencies for Python 3.12 on x86_64"),
    ],
    ids=["python", "arch", "output", "pip"],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, options: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    """A bad option, an unwritable file and a failing pip are reported, and leave no zip behind."""
    done = layer("--output", str(tmp_path / "layer.zip"), *options, **environment)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_with_its_dependencies_it_stands_alone(tmp_path: Path) -> None:
    """A layer for this Python guards a handler where nothing else is installed."""
    output, opt = tmp_path / "layer.zip", tmp_path / "opt"
    machine = {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    done = layer("--output", str(output), "--python", THIS, "--arch", machine)
    assert done.returncode == 0, done.stderr
    zipfile.ZipFile(output).extractall(opt)
    packages = opt / "python" / "lib" / f"python{THIS}" / "site-packages"
    assert not (packages / "bin").exists()
    program = (
        f"import sys; sys.path += [{str(opt / 'python')!r}, {str(packages)!r}]\n"
        "from trace_guard_lambda import guard_handler\n"
        "import braintrust\n"
        "assert guard_handler(lambda event, context: event + 1)(1, None) == 2\n"
        "print(braintrust.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True,
        env={"TRACE_GUARD_DIR": str(tmp_path / "state")},
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).is_relative_to(packages)
