"""The rooms of the package, their levels, and what imports what; run it to see them.

``python tests/layout/rooms.py`` prints each room with its level, its modules and its lines, then the imports that go
up and the circles.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "trace_guard"

# From the bottom up. A module of the package's top level is a room of its own.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("system",),
    ("redaction",),
    ("contain", "deadline", "errors", "outcome", "payload", "rows", "settings"),
    ("journal",),
    ("backends",),
    ("delivery", "repair", "sdk"),
    ("runtime",),
    ("invocation",),
    ("http", "jobs", "drains"),
    ("guard",),
    ("job_decorator", "supervisor"),
    ("__init__",),
    ("testing",),
    ("doctor", "lint"),
    ("ui",),
    ("cli",),
    ("__main__",),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


class Import(NamedTuple):
    """One import of a module by another, by their names below the package."""

    importer: str
    imported: str


def modules() -> dict[str, Path]:
    """Every module of the package by its name below the package."""
    root = REPOSITORY / PACKAGE
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports() -> list[Import]:
    """Every import within the package, also those within functions and for type checkers."""
    known = modules()
    return sorted({
        Import(name, imported)
        for name, path in known.items()
        for imported in _imports_of(name, path, known)
        if imported != name
    })


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    above = name.split(".") if path.name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [PACKAGE, *above][: len(above) + 2 - node.level] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{target}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.partition(".")[0] == PACKAGE:
                yield _module(target.partition(".")[2], known)


def _module(target: str, known: dict[str, Path]) -> str:
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target or "__init__"


def upward(found: list[Import]) -> list[Import]:
    """The imports that go to a higher room."""
    return [
        one for one in found if LEVEL_OF[room_of(one.imported)] > LEVEL_OF[room_of(one.importer)]
    ]


def circles(found: list[Import]) -> list[list[str]]:
    """The groups of modules that import each other, directly or not."""
    below: dict[str, set[str]] = {}
    for one in found:
        below.setdefault(one.importer, set()).add(one.imported)
    reached = {module: _reached(module, below) for module in below}
    groups = {
        tuple(sorted(other for other in seen if module in reached.get(other, ())))
        for module, seen in reached.items() if module in seen
    }
    return [list(group) for group in sorted(groups)]


def _reached(module: str, below: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for other in below.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def main() -> None:
    known, found = modules(), imports()
    for level, rooms in enumerate(LEVELS):
        for room in rooms:
            members = [path for name, path in known.items() if room_of(name) == room]
            lines = sum(len(path.read_text().splitlines()) for path in members)
            print(f"{level:2}  {room:14} {len(members):3} modules {lines:6} lines")
    print(f"upward imports: {len(upward(found))}")
    for one in upward(found):
        print(f"  {one.importer} -> {one.imported}")
    print(f"circles: {len(circles(found))}")
    for group in circles(found):
        print(f"  {', '.join(group)}")


if __name__ == "__main__":
    main()
