"""``trace-guard layer``: packs the packages, the external extension and the exec wrapper as a Lambda layer."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import TraceGuardError
from ..settings import Settings
from .tables import say
from .words import count, size

__all__ = ["build_layer"]

# pip's platform tags. Amazon Linux 2, which the oldest runtime uses, has glibc 2.26, so wheels for any of these
# work.
_ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
_GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_26")
_PACKAGES = ("trace_guard", "trace_guard_lambda")
_THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_MOST_BYTES = 250 * 1024 * 1024
"""The limit for a function and all its layers, unzipped:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

# The earliest time that a zip can hold. A fixed time makes builds reproducible.
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {"__pycache__", ".DS_Store"}
_PROGRAMS = {"extensions/trace-guard", "trace-guard-exec"}


def build_layer(arguments: argparse.Namespace, settings: Settings) -> int:
    """Build the zip, print its contents and the next steps, and return 0.

    Raises:
        TraceGuardError: the adapter is not installed, pip failed, or the file can't be written.
    """
    pythons: Sequence[str] = list(dict.fromkeys(arguments.python or [_THIS_PYTHON]))
    with tempfile.TemporaryDirectory(prefix="trace-guard-layer-") as place:
        stage = Path(place)
        _copy_own(stage)
        if arguments.dependencies:
            for python in pythons:
                say(f"collecting dependencies for Python {python}, {arguments.arch}")
                _install(stage / "python" / "lib" / f"python{python}" / "site-packages", arguments.arch, python)
        if _THIS_PYTHON in pythons:
            _compile(stage)
        files = sorted(_files(stage))
        unzipped = sum(path.stat().st_size for _, path in files)
        output = Path(arguments.output)
        try:
            _write(output, files)
        except OSError as error:
            raise TraceGuardError(f"{output} can't be written: {error.strerror or error}") from error
    say(f"built {output}: {size(output.stat().st_size)}, {count(len(files), 'file')}, {size(unzipped)} unzipped")
    if unzipped > _MOST_BYTES:
        say(f"this exceeds Lambda's limit of {size(_MOST_BYTES)}", style="red")
    _say_next(output, arguments.arch, pythons, arguments.dependencies)
    return 0


def _copy_own(stage: Path) -> None:
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise TraceGuardError(f'{name} is not installed: pip install "trace-guard[lambda]"')
        shutil.copytree(
            spec.submodule_search_locations[0], stage / "python" / name,
            ignore=lambda _, names: [name for name in names if name in _LEFT_OUT or name.endswith((".pyc", ".orig"))],
        )
    shutil.move(stage / "python" / "trace_guard_lambda" / "external" / "layer", stage / "layer")
    for path in (stage / "layer").iterdir():
        shutil.move(path, stage / path.name)
    (stage / "layer").rmdir()


def _install(target: Path, arch: str, python: str) -> None:
    """Install trace-guard's dependencies as wheels for the function's platform, which may differ from this
    machine's."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(target), "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    for glibc in _GLIBC:
        command += ["--platform", f"{glibc}_{_ARCHITECTURES[arch]}"]
    done = subprocess.run([*command, *_dependencies()], capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise TraceGuardError(
            f"pip could not collect the dependencies for Python {python} on {arch}: " + " | ".join(words[-5:])
        )
    # The scripts contain this machine's interpreter path.
    shutil.rmtree(target / "bin", ignore_errors=True)


def _compile(stage: Path) -> None:
    """Compile to bytecode. ``/opt`` is read-only, so a function would otherwise compile again at each cold start.

    The bytecode is marked as unchecked, since the sources' times carry no meaning in the layer.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(stage), "-p", "/opt", str(stage / "python")]
    # A fixed hash seed keeps the order of sets reproducible. Templates that are not valid Python may fail to compile.
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, check=False)


def _dependencies() -> list[str]:
    """The requirements of the base install of this release."""
    try:
        required = importlib.metadata.requires("trace-guard") or []
    except importlib.metadata.PackageNotFoundError:
        required = ["braintrust"]  # a checkout on the path that is not installed
    return [requirement for requirement in required if "extra ==" not in requirement]


def _files(stage: Path) -> Iterator[tuple[str, Path]]:
    for path in stage.rglob("*"):
        if path.is_file():
            yield path.relative_to(stage).as_posix(), path


def _write(output: Path, files: Sequence[tuple[str, Path]]) -> None:
    """Write the zip with sorted names and fixed times and modes, so that builds are reproducible to the byte."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo(name, _FIXED_TIME)
            entry.create_system = 3  # Unix, for the file modes
            entry.external_attr = (0o100755 if name in _PROGRAMS else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def _say_next(output: Path, arch: str, pythons: Sequence[str], dependencies: bool) -> None:
    runtimes = " ".join(f"python{python}" for python in pythons)
    say("")
    say("next: publish it,")
    say(f"  aws lambda publish-layer-version --layer-name trace-guard --zip-file fileb://{output} \\")
    say(f"    --compatible-runtimes {runtimes} --compatible-architectures {arch}")
    say("add the layer to a function, and these variables to its environment; the code needs no change:")
    say("  AWS_LAMBDA_EXEC_WRAPPER=/opt/trace-guard-exec")
    say("  BRAINTRUST_API_KEY=...")
    for python in pythons:
        if python != _THIS_PYTHON:
            say(f"functions on Python {python} start faster if this command is run on Python {python}: "
                "the layer then includes bytecode")
    if not dependencies:
        say("the function's own package must include braintrust")
    machine = platform.machine()
    if _ARCHITECTURES[arch] != {"arm64": "aarch64"}.get(machine, machine):
        say(f"the layer is for functions on {arch}; this machine is {machine}")
