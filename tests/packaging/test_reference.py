"""The reference: docstrings of the public surface."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

REFERENCE = runpy.run_path(str(REPOSITORY / "docs" / "reference.py"))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    fields = getattr(kind, "__dataclass_fields__", ())
    for name, value in vars(kind).items():
        if name in fields:
            continue  # the class's docstring has them
        if not name.startswith("_") and (callable(value) or isinstance(value, (property, classmethod, staticmethod))):
            yield name, value


@pytest.mark.parametrize("name", REFERENCE["PUBLIC"])
def test_every_public_name_has_a_docstring(name: str) -> None:
    """Each public function, class, method and property says what it does."""
    module, bare = import_module(name), []
    names = getattr(module, "__all__", [public for public in vars(module) if not public.startswith("_")])
    for public in names:
        value = getattr(module, public)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        bare += [public] if not inspect.getdoc(value) else []
        if inspect.isclass(value):
            bare += [f"{public}.{member}" for member, found in members(value) if not inspect.getdoc(found)]
    assert bare == []


def test_the_reference_renders(tmp_path: Path) -> None:
    """The reference renders without a warning: all names and annotations resolve."""
    REFERENCE["render"](tmp_path)
    assert "each invocation is one trace" in (tmp_path / "trace_guard_lambda.html").read_text()
