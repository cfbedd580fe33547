"""The messages from the runtime to the extension: one JSON object a line, over a stream socket.

The socket closes when the runtime dies.

============  =====================================================================================================
``hello``     the first message, repeated when the destination changes: ``pid``; ``settings``; ``path``, the
              runtime's ``sys.path``; ``holds_freeze``: the extension must delay the freeze until the next ``end``
``begin``     an invocation begins: ``request``, its ``deadline`` in seconds since the epoch, the ``journal``'s path
``end``       the runtime asks for its next event: whether to ``deliver``, the ``journal``'s path, and the
              ``position`` to deliver up to, a segment's number and an offset in it
============  =====================================================================================================

The runtime sends the first ``end`` after the init, so there is one more ``end`` than events. The settings contain the
Braintrust API key. It goes over the socket only, after each end has checked the user of the other, and never to disk.
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

# Most lines have a few hundred bytes, the first one a few thousand.
_LONGEST_LINE = 1 << 20


def encode(kind: str, **values: Any) -> bytes:
    """A message as bytes for the socket."""
    return json.dumps({"kind": kind, **values}, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Splits received bytes into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that these bytes complete.

        Raises:
            ValueError: the bytes do not follow the protocol.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise ValueError("a line without an end")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a line that is no object")
        return messages


def settings_of(settings: Settings) -> dict[str, Any]:
    """Settings as JSON, without functions: the extension captures no payloads and does not need them."""
    return {name: _plain(value) for name, value in asdict(settings).items() if value is not None}


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings from JSON. Fields that only another release has are ignored.

    Raises:
        SettingsError: a value is not accepted.
    """
    known = {field.name for field in fields(Settings)}
    return Settings.from_env({}, **{name: value for name, value in values.items() if name in known})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [item for item in value if not callable(item)]
    return str(value) if isinstance(value, Path) else value
