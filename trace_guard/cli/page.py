"""``trace-guard ui``: serves the local page."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ..backends.local import LocalStore
from ..errors import TraceGuardError
from ..journal.directory import STORE_NAME, locate
from ..rows import Row
from ..settings import Settings
from .tables import say

__all__ = ["need_ui", "serve_page", "write_pictures"]


def serve_page(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve the page until Ctrl-C."""
    need_ui()
    from ..ui.local_source import LocalSource
    from ..ui.server import serve

    def announce(address: str) -> None:
        say(f"trace-guard: {address}  (Ctrl-C ends it)")

    source = LocalSource(LocalStore(locate(settings.dir) / STORE_NAME))
    serve(source, settings, port=arguments.port, browser=not arguments.no_open, said=announce)
    return 0


def write_pictures(rows: Sequence[Row], root_span_id: str, svg: Path | None, html: Path | None) -> None:
    """Write a trace as an SVG picture, and as an HTML file.

    Raises:
        TraceGuardError: a file can't be written.
    """
    if html is not None:
        need_ui()
    from ..ui.picture import to_html, to_svg

    for path, draw in ((svg, to_svg), (html, to_html)):
        if path is None:
            continue
        try:
            path.write_bytes(draw(rows, root_span_id).encode("utf-8", "replace"))
        except OSError as error:
            raise TraceGuardError(f"{path} can't be written: {error.strerror}") from error
        say(f"written: {path}")


def need_ui() -> None:
    """Raises:
        TraceGuardError: a package that the page needs is not installed.
    """
    for name in ("starlette", "uvicorn", "jinja2"):
        if importlib.util.find_spec(name) is None:
            raise TraceGuardError(f'the page needs {name}, which is not installed: pip install "trace-guard[ui]"')
