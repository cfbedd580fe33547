"""Renders the docstrings of the public surface as HTML: ``make reference``. A warning of pdoc is an error."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

PUBLIC = (
    "trace_guard", "trace_guard.errors", "trace_guard.settings", "trace_guard.outcome", "trace_guard.deadline",
    "trace_guard.backends.local", "trace_guard.backends.memory", "trace_guard.drains", "trace_guard.testing",
    "trace_guard_lambda", "trace_guard_lambda.powertools", "trace_guard_gcf", "trace_guard_azure", "trace_guard_ray",
)


def render(directory: Path) -> None:
    """Write the pages to a directory.

    Raises:
        UserWarning: pdoc can't resolve a name or an annotation.
    """
    for name in PUBLIC:
        module = import_module(name)
        for lazy in getattr(module, "__all__", ()):
            setattr(module, lazy, getattr(module, lazy))  # pdoc looks at what is there
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        warnings.filterwarnings("error", category=UserWarning)
        pdoc.render.configure(docformat="google")
        pdoc.pdoc(*PUBLIC, output_directory=directory)


if __name__ == "__main__":
    render(Path(sys.argv[1]))
