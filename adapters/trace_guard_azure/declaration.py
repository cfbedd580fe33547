"""What is declared of a function: its name and its bindings, by decorators or in ``function.json``.

Both come down to the same: https://learn.microsoft.com/azure/azure-functions/functions-triggers-bindings
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from trace_guard.contain import contained

__all__ = ["NOTHING_DECLARED", "Binding", "Declaration", "declared_by", "declared_in"]

Binding = Mapping[str, Any]
"""As in ``function.json``: ``type``, ``direction``, ``name``, and what the type has of its own."""

_EMPTY: Binding = MappingProxyType({})
# %SETTING% stands for the value of an app setting: .../functions-bindings-expressions-patterns
_SETTING = re.compile(r"%([^%]+)%")


class Declaration(NamedTuple):
    """
    Attributes:
        name: under which it is registered; None if that is not known.
        trigger: its one trigger; empty if it is not known.
        return_type: the type of the binding of what it returns; None if there is none.
        http_type: ``function``, or ``asgi`` or ``wsgi`` for what passes all requests to an application.
    """

    name: str | None = None
    trigger: Binding = _EMPTY
    return_type: str | None = None
    http_type: str = "function"

    @property
    def kind(self) -> str | None:
        """The type of the trigger."""
        found = self.trigger.get("type")
        return found if isinstance(found, str) else None

    @property
    def parameter(self) -> str | None:
        """The name of the trigger's parameter."""
        found = self.trigger.get("name")
        return found if isinstance(found, str) else None

    def told(self, *keys: str) -> str | None:
        """What the trigger has under the first of the keys that it has, with app settings filled in."""
        for key in keys:
            found = self.trigger.get(key)
            if isinstance(found, str) and found:
                return _SETTING.sub(lambda name: os.environ.get(name[1]) or name[0], found)
        return None


NOTHING_DECLARED = Declaration()


def declared_by(function: Any) -> Declaration:
    """What the decorators of an app have declared of a function.

    Args:
        function: a ``Function`` of ``azure.functions``, complete or not.
    """
    trigger = contained("read a function's trigger", lambda: _trigger_of(function), _EMPTY)
    bindings = [
        {"type": one.type, "name": one.name, "direction": one.direction} for one in function.get_bindings()
    ]
    return Declaration(
        contained("read a function's name", function.get_function_name, None), trigger, _return_type(bindings),
        str(getattr(function, "http_type", None) or "function"),
    )


def _trigger_of(function: Any) -> Binding:
    trigger = function.get_trigger()
    # A copy: what the app will tell the host is still to be completed.
    return _EMPTY if trigger is None else {**trigger.get_dict_repr(), "type": trigger.type, "name": trigger.name}


@functools.lru_cache(maxsize=256)
def declared_in(directory: str) -> Declaration:
    """What ``function.json`` declares, in the first programming model; nothing if there is none.

    Args:
        directory: of the function.
    """
    try:
        text = (Path(directory) / "function.json").read_text(encoding="utf-8-sig")
    except OSError:
        return NOTHING_DECLARED
    found = json.loads(text)
    bindings = [one for one in found.get("bindings", ()) if isinstance(one, dict)]
    trigger = next((one for one in bindings if str(one.get("type", "")).lower().endswith("trigger")), _EMPTY)
    if not trigger:
        return NOTHING_DECLARED
    return Declaration(Path(directory).name, trigger, _return_type(bindings))  # so the host names it


def _return_type(bindings: Iterable[Binding]) -> str | None:
    return next((str(one.get("type")) for one in bindings if one.get("name") == "$return"), None)
