"""Builds the wheel, installs it bare into environments of the oldest and the newest Python that this machine has, and
uses it there: ``make wheel-test``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from environments import interpreters  # noqa: E402

# The supported ones, oldest first.
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
ADAPTERS = ("trace_guard_azure", "trace_guard_gcf", "trace_guard_lambda", "trace_guard_ray")
PACKAGES = ("trace_guard", *ADAPTERS)
# What can differ where the package is installed: the surface, the layer that is built of it, and one contract for each
# way to call it. All else has passed in the checkout.
TESTS = (
    "tests/core/test_surface.py", "tests/cli/test_layer.py", "tests/contract/test_guard.py",
    "tests/contract/test_gcf_contract.py", "tests/contract/test_jobs_contract.py",
    "tests/contract/test_lambda_sandbox_contract.py",
)
CHOSEN = (
    "test_surface or test_it_holds or built_twice or (TestGuard and with_block) or (TestJobs and block)"
    " or (TestFunctionsFramework and (wsgi or (http and not aio_http))) or TestLambdaSandbox"
)

GUARDED = """
import sys
import trace_guard_azure, trace_guard_gcf, trace_guard_ray
from trace_guard_lambda import guard_handler

@guard_handler(project="bare")
def handler(event, context):
    return event["n"] + 1

assert handler({"n": 1}, None) == 2
assert not {"rich", "awslambdaric", "pytest"} & set(sys.modules)
"""


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trace-guard-wheel-") as place:
        here = Path(place)
        wheel = build(here)
        check_contents(wheel)
        bases = supported()
        with ThreadPoolExecutor(len(bases) + 1) as threads:
            running = [threads.submit(use, here / version, base, wheel) for version, base in bases.items()]
            running.append(threads.submit(follow_readme, here, list(bases.values())[-1], wheel))
            for done in running:
                done.result()
    print(f"done       in {time.monotonic() - began:.0f} s")


def supported() -> dict[str, str]:
    """The oldest and the newest supported Python of this machine, by version."""
    found = {version: base for version in VERSIONS for base in [next(interpreters(version), None)] if base is not None}
    return {version: found[version] for version in (min(found, key=VERSIONS.index), max(found, key=VERSIONS.index))}


def use(here: Path, base: str, wheel: Path) -> None:
    """Install and test the wheel with one Python."""
    here.mkdir()
    python = install(here, base, wheel)
    guard_a_handler(here, python)
    run_tests(here, python, wheel)


def build(here: Path) -> Path:
    """The wheel, built as a release is."""
    builder = [sys.executable, "-m", "build", "--installer", "uv", "--wheel"]
    run([*builder, "--outdir", str(here / "dist"), str(REPOSITORY)])
    (wheel,) = (here / "dist").glob("*.whl")
    print(f"built      {wheel.name}, {wheel.stat().st_size // 1024} KB")
    return wheel


def check_contents(wheel: Path) -> None:
    """It holds all packages whole, their types, the demo's function and the licence, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {*PACKAGES}, tops
    missing = sources() - set(names)
    assert not missing, missing
    assert any(name.endswith("licenses/LICENSE") for name in names), names
    strangers = [name for name in names if {"adapters", "tests"} & set(name.split("/")) or name.endswith(".pyc")]
    assert not strangers, strangers
    print(f"contents   {len(names)} files in {', '.join(sorted(tops))}")


def sources() -> set[str]:
    """What the checkout has for the wheel, by its name there."""
    places = {
        "trace_guard": REPOSITORY / "trace_guard",
        **{name: REPOSITORY / "adapters" / name for name in ADAPTERS},
        "trace_guard/cli/demo_agent": REPOSITORY / "examples" / "lambda_agent",
    }
    found = {
        f"{name}/{path.relative_to(place).as_posix()}"
        for name, place in places.items() for path in place.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {f"{name}/py.typed" for name in PACKAGES} <= found, "no py.typed"
    return found


def install(here: Path, base: str, wheel: Path) -> Path:
    """A fresh environment with the wheel and what its base install brings, no extras."""
    run([base, "-m", "venv", "--without-pip", str(here / "venv")])
    python = here / "venv" / "bin" / "python"
    pip(python, str(wheel))
    for absent in ("rich", "awslambdaric"):
        assert subprocess.run([python, "-c", f"import {absent}"], capture_output=True).returncode == 1, absent
    print(f"installed  bare, without extras, on Python {here.name}")
    return python


def guard_a_handler(here: Path, python: Path) -> None:
    """Without extras and without a key a handler is guarded, and its trace is closed in the local store."""
    directory = here / "state"
    run([str(python), "-c", GUARDED], cwd=here, TRACE_GUARD_DIR=str(directory))
    printed = run([str(python), "-m", "trace_guard", "--dir", str(directory), "traces", "--json"], cwd=here)
    (trace,) = json.loads(printed)["traces"]
    found = (trace["project"], trace["outcome"], trace["in_progress"], trace["open_spans"])
    assert found == ("bare", "ok", False, 0), trace
    print(f"guarded    a handler on Python {here.name}: its trace is closed in the local store")


def follow_readme(here: Path, base: str, wheel: Path) -> None:
    """From an empty folder to a trace on the page, by the README's own words; pip finds the wheel as if it were
    published."""
    readme = (REPOSITORY / "README.md").read_text()
    place = here / "empty"
    place.mkdir()
    (place / "app.py").write_text(re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[0])
    commands = [
        line.removeprefix("$ ") for block in re.findall(r"^```console\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[:2]
        for line in block.splitlines()
    ]
    assert len(commands) <= 5, commands
    run([base, "-m", "venv", str(place / ".venv")])
    variables = environment(
        PIP_FIND_LINKS=str(wheel.parent), PIP_DISABLE_PIP_VERSION_CHECK="1", TRACE_GUARD_DIR=str(place / "state"),
        PATH=f"{place / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )
    for command in commands[:-1]:
        done = subprocess.run(["bash", "-c", command], cwd=place, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    page = subprocess.Popen(["bash", "-c", f"exec {commands[-1]}"], cwd=place, env=variables, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert page.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+", page.stdout.readline())
    assert address is not None, page.communicate(timeout=20)
    with urllib.request.urlopen(address[0], timeout=20) as answer:
        assert ">lambda</a>" in answer.read().decode()
    page.send_signal(signal.SIGINT)
    page.communicate(timeout=20)
    print(f"followed   the README: {len(commands)} commands from an empty folder to a trace on the page")


def run_tests(here: Path, python: Path, wheel: Path) -> None:
    """Tests that need nothing but the package pass on the installed wheel; the checkout is out of reach."""
    needed = ("hypothesis", "opentelemetry-sdk", "pytest", "pytest-mock", "pytest-timeout", "pytest-xdist")
    pip(python, f"{wheel}[cli,gcf,testing]", *needed)
    copy = here / "checkout"
    shutil.copytree(REPOSITORY / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy / name)
    where = run([str(python), "-c", "import trace_guard; print(trace_guard.__file__)"], cwd=copy).strip()
    assert Path(where).is_relative_to(here / "venv"), where
    pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run([*pytest, *TESTS, "-k", CHOSEN], cwd=copy, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"tests fail on the wheel, Python {here.name}:\n{done.stdout}{done.stderr}"
    print(f"tested     on Python {here.name}: {done.stdout.splitlines()[-1]}")


def pip(python: Path, *packages: str) -> None:
    """Install without a pip in the new environment."""
    options = ["--quiet", "--compile-bytecode", "--python", str(python)]
    run([sys.executable, "-m", "uv", "pip", "install", *options, *packages])


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would let the checkout or a real key in."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {name: value for name, value in kept.items() if not name.startswith(("BRAINTRUST_", "TRACE_GUARD_"))} | more


def run(command: list[str], cwd: Path | None = None, **more: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main()
