"""What a process without a key says about where its traces are. Each message is printed once, to stderr."""

from __future__ import annotations

import os
from pathlib import Path

from ..journal.directory import STORE_NAME
from ..redaction.outside_text import print_error
from ..settings import is_instance_temporary

__all__ = ["announce_late_key", "announce_local_store"]

_printed: set[str] = set()


def announce_local_store(directory: Path) -> None:
    """Traces are kept in the local store, as there is no key. On a platform that deletes its disks this is a warning.

    Args:
        directory: trace-guard's directory.
    """
    kept = f"BRAINTRUST_API_KEY is not set: traces are kept in {directory / STORE_NAME}"
    if is_instance_temporary(os.environ):
        _print_once(
            f"warning: {kept}, and are lost with the disk of this instance. Set BRAINTRUST_API_KEY, or log in "
            "with braintrust.login(api_key=...) before the first invocation ends"
        )
    else:
        _print_once(f"{kept}; `trace-guard traces` shows them")


def announce_late_key(directory: Path) -> None:
    """A key has come after traces were delivered to the local store.

    Args:
        directory: trace-guard's directory.
    """
    _print_once(
        f"the key came after the first delivery: earlier traces stay in {directory / STORE_NAME}, later ones go to "
        "Braintrust. `trace-guard send` sends the earlier ones too"
    )


def _print_once(message: str) -> None:
    if message not in _printed:
        _printed.add(message)
        print_error(message)
