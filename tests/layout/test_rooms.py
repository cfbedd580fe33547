"""The package keeps to its rooms: see ``docs/architecture.md``."""

from __future__ import annotations

import subprocess
import sys

from rooms import LEVEL_OF, REPOSITORY, circles, imports, modules, room_of, upward

# A process of its own for each module; what others have made is imported before, as it takes most of the time.
ALONE = """
import gc, importlib, os, sys, types

def fork(act):
    child = os.fork()
    if not child:
        act()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)

def import_all():
    for name in sys.argv[2:]:
        importlib.import_module(name)
    os.write(writing, " ".join(name for name in sys.modules if not name.startswith("trace_guard")).encode())

def import_one():
    # Without its __init__, which imports most of the others first.
    package = sys.modules["trace_guard"] = types.ModuleType("trace_guard")
    package.__path__, package.__version__ = [sys.argv[1]], "0"
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(f"{name}: {error!r}")

reading, writing = os.pipe()
fork(import_all)
os.close(writing)
for name in open(reading).read().split():
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # a module of a package that names it otherwise
gc.freeze()  # the children copy less
for name in sys.argv[2:]:
    fork(import_one)
"""


def test_every_module_has_a_room() -> None:
    """Each module stands in a room whose level is declared."""
    assert {room_of(module) for module in modules()} <= set(LEVEL_OF)


def test_no_import_goes_up() -> None:
    """A room imports only rooms below it, also within functions and for type checkers."""
    assert upward(imports()) == []


def test_there_are_no_circles() -> None:
    """No module imports itself by way of others, also within functions and for type checkers."""
    assert circles(imports()) == []


def test_each_module_imports_alone() -> None:
    """Every module can be the first one that a program imports."""
    names = ["trace_guard" if name == "__init__" else f"trace_guard.{name}" for name in modules() if name != "__main__"]
    command = [sys.executable, "-c", ALONE, str(REPOSITORY / "trace_guard"), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_top_level_is_short() -> None:
    """The package's top level has the vocabulary and what users hold, and no more."""
    top = list((REPOSITORY / "trace_guard").glob("*.py"))
    assert len(top) <= 12
