"""Makes the environments of runtimes that want a Python, or packages, of their own: ``make test`` runs it.

Each is a folder beside ``.venv`` with one group of ``[dependency-groups]`` in ``pyproject.toml``. What can't be had on
this machine is said here, and the tests of that runtime are skipped, with the same reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ENVIRONMENTS", "NODE_PACKAGES", "node_modules", "python_of"]

REPOSITORY = Path(__file__).parent.parent
# The group of packages, and the Python that it is for; None: the one of ``.venv``.
ENVIRONMENTS: dict[str, str | None] = {"airflow": None, "azure": "3.13", "integrations": None, "servers": None}

# Packages of npm, for traces of other languages.
NODE_PACKAGES = ("braintrust",)


def python_of(name: str) -> Path:
    """The interpreter of an environment, whether it is there or not."""
    return REPOSITORY / f".venv-{name}" / "bin" / "python"


def main() -> None:
    for name, version in ENVIRONMENTS.items():
        problem = make(name, version)
        if problem:
            print(f"no {python_of(name).parent.parent.name}, its tests are skipped: {problem}")
        else:
            # Programs that tests start write no bytecode, and without any each of them compiles the package anew.
            compileall = [str(python_of(name)), "-m", "compileall", "-q", "trace_guard", "adapters"]
            subprocess.run(compileall, cwd=REPOSITORY, check=True)
    problem = make_node()
    if problem:
        print(f"no {node_modules().parent.name}, its tests are skipped: {problem}")


def make(name: str, version: str | None) -> str | None:
    """Make an environment unless it is there and newer than ``pyproject.toml``; why that can't be done, or None."""
    done = python_of(name).parent.parent / ".installed"
    project = REPOSITORY / "pyproject.toml"
    if done.exists() and done.stat().st_mtime >= project.stat().st_mtime:
        return None
    base = sys.executable if version is None else next(interpreters(version), version)
    for command in (
        ["venv", "--quiet", "--clear", "--python", base, str(python_of(name).parent.parent)],
        ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python_of(name)), "--group",
         f"{project}:{name}"],
    ):
        ended = subprocess.run([sys.executable, "-m", "uv", *command], cwd=REPOSITORY, capture_output=True, text=True)
        if ended.returncode != 0:
            return ended.stderr.strip() or f"uv ended with {ended.returncode}"
    done.touch()
    return None


def node_modules() -> Path:
    """Where the packages of npm are, whether they are there or not."""
    return REPOSITORY / ".venv-node" / "node_modules"


def make_node() -> str | None:
    """Install the packages of npm unless they are there; why that can't be done, or None."""
    directory = node_modules().parent
    if all((node_modules() / name).exists() for name in NODE_PACKAGES):
        return None
    if shutil.which("npm") is None:
        return "there is no npm"
    directory.mkdir(exist_ok=True)
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    ended = subprocess.run(
        ["npm", "install", "--prefix", str(directory), *quiet, *NODE_PACKAGES], capture_output=True, text=True
    )
    return None if ended.returncode == 0 else ended.stderr.strip() or f"npm ended with {ended.returncode}"


def interpreters(version: str) -> Iterator[str]:
    """Those of a version that run: on the path, or pyenv's, whose names on the path do not always lead to them.
    Where there is none, uv looks for one that it can fetch."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for candidate in (f"python{version}", *sorted(map(str, versions.glob(f"{version}.*/bin/python")), reverse=True)):
        try:
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        except OSError:
            continue
        if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
            yield candidate


if __name__ == "__main__":
    main()
