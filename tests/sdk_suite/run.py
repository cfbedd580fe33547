"""Runs the SDK's own tests plain and under the guard, and writes how they differ into the documentation:
``make sdk-suite``.

A wheel of the SDK ships its tests up to 0.47.0. Not among them: the recorded answers ("cassettes") that tests of
integrations replay, so tests marked ``vcr`` can't run. ``explained.toml`` has the reason for each difference. One
without a reason makes this fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PAGE = REPOSITORY / "docs" / "compatibility.md"
BEGIN, END = "<!-- make sdk-suite: begin -->\n", "<!-- make sdk-suite: end -->\n"

# The oldest, one between, and the newest that ships tests; each with packages of its time where newer ones break its
# own tests.
RELEASES: Mapping[str, Sequence[str]] = {
    "0.4.0": ("opentelemetry-exporter-otlp-proto-http<1.39",),
    "0.26.0": ("opentelemetry-exporter-otlp-proto-http<1.39",),
    "0.47.0": (),
}
MODES = ("plain", "gateway", "invocation")
PACKAGES = (
    "aiohttp", "autoevals", "braintrust_core", "httpx", "opentelemetry-exporter-otlp-proto-http", "pydantic", "pytest",
    "pytest-asyncio", "pytest-timeout", "pytest-vcr", "pytest-xdist", "starlette", "uvicorn",
)
# They need the library that they are about, and most of them recorded answers.
LEFT_OUT = ("integrations", "wrappers", "contrib", "btx", "type_tests")
Outcomes = dict[str, str]


def main() -> None:
    found: dict[str, dict[str, Outcomes]] = {}
    for release, more in RELEASES.items():
        python = install(release, more)
        found[release] = {mode: run(python, mode) for mode in MODES}
        for mode in MODES[1:]:
            confirm(python, mode, found[release])
            counted = Counter(found[release][mode].values())
            print(f"{release} {mode}: {dict(counted)}, {len(differing(found[release], mode))} differ", flush=True)
    explained = tomllib.loads((HERE / "explained.toml").read_text())["difference"]
    table, unexplained, unused = report(found, explained)
    page = PAGE.read_text()
    PAGE.write_text(page[:page.index(BEGIN) + len(BEGIN)] + table + page[page.index(END):])
    print(*(f"not seen: {why}" for why in unused), sep="\n")
    if unexplained:
        sys.exit("\n".join(("not explained:", *unexplained)))


def install(release: str, more: Sequence[str]) -> Path:
    """The interpreter of an environment with a release and what its tests need; it is kept for the next run."""
    home = REPOSITORY / ".venv-suite" / f"{sys.version_info.major}.{sys.version_info.minor}-{release}"
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        wanted = [f"braintrust=={release}", *PACKAGES, *more]
        options = ["--quiet", "--compile-bytecode", "--python", str(python)]
        subprocess.run([*uv, "pip", "install", *options, *wanted], check=True)
        done.touch()
    return python


def run(python: Path, mode: str, tests: Iterable[str] = ()) -> Outcomes:
    """How each test ended; only those with these names if some are given."""
    (package,) = python.parents[1].glob("lib/python3*/site-packages/braintrust")
    with tempfile.TemporaryDirectory(prefix="trace-guard-suite-") as place:
        here = Path(place)
        (here / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\npython_files = test_*.py\n")
        environment = {
            "PATH": os.environ["PATH"], "HOME": place, "TRACE_GUARD_DIR": str(here / "state"), "SDK_SUITE_MODE": mode,
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(HERE))), "BRAINTRUST_TESTING_WHEEL": "1",
        }
        options = [
            "-c", "pytest.ini", "-p", "guarded_suite", "-p", "no:cacheprovider", "-q", "--timeout", "60",
            "-m", "not vcr", "--junitxml", "outcomes.xml", *(f"--ignore={package / folder}" for folder in LEFT_OUT),
        ]
        names = [name.partition("[")[0].rpartition("::")[2] for name in tests]
        options += ["-k", " or ".join(names)] if names else ["-n", "2"]
        command = [str(python), "-W", "ignore", "-m", "pytest", *options, str(package)]
        ended = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        if not (here / "outcomes.xml").exists():
            sys.exit(f"pytest ended with {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        return read(here / "outcomes.xml")


def read(path: Path) -> Outcomes:
    """Each test's outcome: the worst one if it is there several times, as tests with subtests are."""
    outcomes: Outcomes = {}
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
        outcomes[name] = outcome if outcomes.get(name) in (None, "passed", "skipped") else "failed"
    return outcomes


def differing(found: Mapping[str, Outcomes], mode: str) -> list[str]:
    """The tests that end in another way than plain."""
    plain, guarded = found["plain"], found[mode]
    return sorted(name for name in {*plain, *guarded} if plain.get(name) != guarded.get(name))


def confirm(python: Path, mode: str, found: dict[str, Outcomes]) -> None:
    """Run those that differ again, plain and guarded: what does not repeat is the load of the machine."""
    names = differing(found, mode)
    if names:
        for one in ("plain", mode):
            again = run(python, one, names)
            found[one].update({name: again[name] for name in names if name in again})


def report(
    found: Mapping[str, Mapping[str, Outcomes]], explained: Sequence[Mapping[str, Any]]
) -> tuple[str, list[str], list[str]]:
    """The tables, the differences without a reason, and the reasons that nothing needs."""
    lines = ["| release | tests that run | pass plain | differ with the guard | differ in an open invocation |",
             "|---|---|---|---|---|"]
    seen: dict[str, dict[str, dict[str, list[str]]]] = {}
    unexplained = []
    for release, modes in found.items():
        counted = Counter(modes["plain"].values())
        ran, numbers = counted["passed"] + counted["failed"], [len(differing(modes, mode)) for mode in MODES[1:]]
        lines.append(f"| {release} | {ran} | {counted['passed']} | {numbers[0]} | {numbers[1]} |")
        for mode in MODES[1:]:
            for test in differing(modes, mode):
                whys = [
                    one["why"] for one in explained
                    if mode in one["modes"] and any(fnmatchcase(test, pattern) for pattern in one["tests"])
                ]
                if not whys:
                    ends = f"{modes['plain'].get(test)} plain, now {modes[mode].get(test)}"
                    unexplained.append(f"{release} {mode} {test}: {ends}")
                for why in whys[:1]:
                    seen.setdefault(why, {}).setdefault(test.partition("[")[0], {}).setdefault(release, []).append(mode)
    lines += ["", "| why | tests (releases) |", "|---|---|"]
    for why in (one["why"] for one in explained):
        if why in seen:
            tests = ", ".join(f"`{test.rpartition('::')[2]}` ({', '.join(on)})" for test, on in seen[why].items())
            lines.append(f"| {why} | {tests} |")
    unused = [one["why"] for one in explained if one["why"] not in seen]
    return "\n".join(lines) + "\n", unexplained, unused


if __name__ == "__main__":
    main()
