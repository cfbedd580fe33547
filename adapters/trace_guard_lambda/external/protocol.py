"""What the runtime tells the extension: one JSON object a line, over a stream socket whose end is the runtime's.

============  =====================================================================================================
``hello``     first of all, and again when the destination has changed: ``pid``; ``settings``; ``path``, where the
              runtime looks for modules; ``gates``: the extension is to hold the freeze back until the next ``end``
``begin``     an invocation begins: ``request``, its ``deadline`` in seconds since the epoch, the ``journal``'s path
``end``       the runtime asks for its next event: whether to ``deliver``, the ``journal``'s path, and the
              ``position`` up to which, a segment's number and an offset in it
============  =====================================================================================================

The first ``end`` comes when the init is over, so that there is one more of them than there were events. The key of
Braintrust is among the settings: it goes over the socket, at both ends of which the other's user is checked, and never
on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any

from trace_guard.settings import Settings

__all__ = ["Lines", "encode", "settings_from", "settings_of"]

# A line is a few hundred bytes, the first one some thousand.
_LONGEST_LINE = 1 << 20


def encode(kind: str, **values: Any) -> bytes:
    """A message as it goes over the socket."""
    return json.dumps({"kind": kind, **values}, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Puts the messages together from what arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are complete with this.

        Raises:
            ValueError: this is not the protocol.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise ValueError("a line without an end")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a line that is no object")
        return messages


def settings_of(settings: Settings) -> dict[str, Any]:
    """Settings as JSON. Functions among them stay behind: the extension captures nothing."""
    return {name: _plain(value) for name, value in asdict(settings).items() if value is not None}


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings again. What another release has on top is passed over.

    Raises:
        SettingsError: a value is not accepted.
    """
    known = {one.name for one in fields(Settings)}
    return Settings.from_env({}, **{name: value for name, value in values.items() if name in known})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [item for item in value if not callable(item)]
    return str(value) if isinstance(value, Path) else value
