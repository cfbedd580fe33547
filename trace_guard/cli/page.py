"""``trace-guard ui``: serves the local page."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.braintrust import BraintrustBackend
from ..backends.local import LocalStore
from ..backends.project_ids import ProjectIds
from ..deadline import Deadline
from ..errors import SettingsError, TraceGuardError
from ..journal.directory import STORE_NAME, locate
from ..rows import Row
from ..settings import Settings
from .tables import say

if TYPE_CHECKING:
    from ..ui.repair import ReaperRepair
    from ..ui.source import TraceSource

__all__ = ["need_ui", "serve_page", "write_pictures"]

_ORGANISATION_SECONDS = 10.0


def serve_page(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve the page until Ctrl-C."""
    need_ui()
    from ..ui.health import Health
    from ..ui.local_source import LocalSource
    from ..ui.repair import ReaperRepair
    from ..ui.server import serve

    def announce(address: str) -> None:
        say(f"trace-guard: {address}  (Ctrl-C ends it)")

    source: TraceSource
    if arguments.project:
        source, repair = _of_project(arguments.project, settings)
    else:
        source = LocalSource(LocalStore(locate(settings.dir) / STORE_NAME))
        repair = ReaperRepair(replace(settings, backend="local"))
    health = Health(settings, repair)
    serve(source, health, port=arguments.port, browser=not arguments.no_open, said=announce)
    return 0


def _of_project(name: str, settings: Settings) -> tuple[TraceSource, ReaperRepair]:
    """The traces of a project in Braintrust.

    Raises:
        SettingsError: there is no key, or no such project.
        BackendError: Braintrust can't be reached, or refuses the key.
    """
    from ..backends.make import make_backend
    from ..repair.query import BraintrustSource
    from ..ui.remote_source import RemoteSource
    from ..ui.repair import ReaperRepair

    if not settings.api_key:
        raise SettingsError("there is no key: set BRAINTRUST_API_KEY to look at a project in Braintrust")
    settings = replace(settings, backend="braintrust")
    backend = make_backend(settings, ProjectIds())
    assert isinstance(backend, BraintrustBackend)
    reading = BraintrustSource(backend, projects=[name])
    (where, *_) = reading.objects()
    organisation = backend.organisation(Deadline.after(_ORGANISATION_SECONDS)).name
    return RemoteSource(reading, where, settings.app_url, organisation), ReaperRepair(settings, [name], is_slow=True)


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
