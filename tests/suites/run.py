"""Runs the test suites of frameworks, plain and with the guard around every application: ``make suites``.

Each suite comes from the source distribution of the release that is installed in ``.venv-suites``. A test that passes
plain and fails guarded is a difference. ``differences.txt`` explains each one. One without an explanation fails the
run, and so does an explanation without a difference. The table goes to ``docs/compatibility.md``, between its markers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = REPOSITORY / ".venv-suites"
PYTHON = ENVIRONMENT / "bin" / "python"
PAGE = REPOSITORY / "docs" / "compatibility.md"
MARKERS = "<!-- suites: begin -->", "<!-- suites: end -->"

# The suites, and what they need beside the project's own requirements.
SUITES: dict[str, tuple[str, ...]] = {
    "starlette": ("starlette[full]", "trio", "httpx2[zstd]", "opentelemetry-sdk"),
    "flask": ("flask[async,dotenv]", "greenlet"),
    "mangum": ("mangum", "boto3", "brotli-asgi", "quart"),
}
WITHOUT_TESTS = ("bottle", "quart")
MOST_SECONDS = 900


class Result(NamedTuple):
    """The tests of one run by their outcome."""

    passed: frozenset[str]
    failed: frozenset[str]


def main() -> int:
    explained = explanations()
    install()
    rows, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in SUITES:
            version, source = fetch(name, Path(folder))
            plain, guarded = run(source), run(source, guarded=True)
            different = plain.passed - guarded.passed
            if not plain.passed:
                problems.append(f"{name}: no test passes alone")
            known = {test for suite, test in explained if suite == name}
            problems += [f"{name}: {test} fails with the middleware" for test in sorted(different - known)]
            problems += [f"{name}: {test} is explained and does not fail" for test in sorted(known - different)]
            rows.append(
                f"| {name} {version} | {len(plain.passed | plain.failed)} | {len(plain.passed)} | "
                f"{len(plain.passed & guarded.passed)} | {len(different)} |"
            )
            print(rows[-1], flush=True)
    write(rows, explained)
    for problem in problems:
        print(problem)
    return len(problems) > 0


def explanations() -> dict[tuple[str, str], str]:
    """The reasons of known differences, by suite and test."""
    lines = (Path(__file__).parent / "differences.txt").read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            test, _, reason = line.partition(" | ")
            suite, _, test = test.partition(" ")
            found[suite, test.strip()] = reason.strip()
    return found


def install() -> None:
    if not PYTHON.exists():
        uv("venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT))
    # Newer releases of pytest lack a name that the tests of Flask import.
    needed = {"braintrust>=0.4", "pytest<9", *SUITES, *(one for packages in SUITES.values() for one in packages)}
    uv("pip", "install", "--quiet", "--python", str(PYTHON), *sorted(needed))


def uv(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *words], check=True)


def fetch(name: str, folder: Path) -> tuple[str, Path]:
    """The installed version of a package, and the folder of its source distribution."""
    ask = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    version = subprocess.run([PYTHON, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, "--dest", str(folder),
         f"{name}=={version}"],
        check=True,
    )
    (archive,) = folder.glob(f"{name}-{version}.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    return version, folder / f"{name}-{version}"


def run(source: Path, *, guarded: bool = False) -> Result:
    """Run a suite, with the middleware or without."""
    report = source / "report.xml"
    report.unlink(missing_ok=True)
    plugin = ["-p", "guarding"] if guarded else []
    path = [str(source / "src"), str(source)]
    if guarded:
        path += [str(REPOSITORY), str(REPOSITORY / "adapters"), str(Path(__file__).parent)]
    with tempfile.TemporaryDirectory() as state:
        subprocess.run(
            [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore",
             "--continue-on-collection-errors", *plugin, "--junitxml", str(report), "tests"],
            cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=MOST_SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TRACE_GUARD_DIR": state},
        )
    passed, failed = set(), set()
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is None:
            passed.add(name)
    return Result(frozenset(passed - failed), frozenset(failed))


def write(rows: list[str], explained: dict[tuple[str, str], str]) -> None:
    """Put the table between the markers of the page."""
    reasons = [f"- {suite}, `{test}`: {reason}" for (suite, test), reason in sorted(explained.items())]
    table = "\n".join([
        "| suite | tests | pass alone | pass with the middleware too | differences |", "|---|---|---|---|---|", *rows,
        "",
        *reasons, *([""] if reasons else []),
        f"The source distributions of {' and '.join(WITHOUT_TESTS)} have no tests.",
    ])
    page, (begin, end) = PAGE.read_text(), MARKERS
    PAGE.write_text(re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", page, flags=re.S))


if __name__ == "__main__":
    sys.exit(main())
