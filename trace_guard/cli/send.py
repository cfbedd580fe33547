"""``trace-guard send``: sends the traces of the local store to Braintrust."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator

from ..backends.base import Backend
from ..backends.local import LocalStore
from ..backends.make import make_backend
from ..backends.project_ids import ProjectIds
from ..deadline import Deadline
from ..errors import BackendError
from ..journal.directory import STORE_NAME, locate
from ..redaction.outside_text import print_error
from ..rows import dump
from ..settings import Settings
from .tables import say
from .words import count, with_advice

__all__ = ["send_store"]

_ATTEMPT_SECONDS = 30.0
_BATCH_BYTES = 1024 * 1024


def send_store(arguments: argparse.Namespace, settings: Settings) -> int:
    """Send every trace of the store. They stay in the store, and sending them again changes nothing. Returns 1 if the
    backend does not take them."""
    store = LocalStore(locate(settings.dir) / STORE_NAME)
    if settings.backend_name != "braintrust" or not settings.api_key:
        print_error(f"BRAINTRUST_API_KEY is not set: it says where to send the traces in {store.path}")
        return 1
    backend, sent = make_backend(settings, ProjectIds()), 0
    try:
        for batch in _batches(_encoded(store, backend)):
            backend.send(batch, Deadline.after(_ATTEMPT_SECONDS))
            sent += len(batch)
    except BackendError as error:
        print_error(f"{count(sent, 'span')} sent, then: {with_advice(error)}. Run the command again to send the rest")
        return 1
    finally:
        backend.close()
    say(f"{count(sent, 'span')} sent from {store.path}")
    return 0


def _encoded(store: LocalStore, backend: Backend) -> Iterator[bytes]:
    """The rows of projects' logs. In the store a project that was given by name has its name as its id."""
    ids: dict[str, str] = {}
    for row in store.all_rows():
        project = row.get("project_id")
        if not isinstance(project, str):
            continue
        if project not in ids:
            ids[project] = project if _is_id(project) else backend.resolve_project(
                project, Deadline.after(_ATTEMPT_SECONDS)
            )
        yield dump({**row, "project_id": ids[project], "_is_merge": True})


def _is_id(project: str) -> bool:
    try:
        uuid.UUID(project)
    except ValueError:
        return False
    return True


def _batches(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for row in rows:
        if batch and size + len(row) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row)
    if batch:
        yield batch
