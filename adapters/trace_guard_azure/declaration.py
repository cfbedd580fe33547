"""The declaration of a function: its name and its bindings, from decorators or ``function.json``.

https://learn.microsoft.com/azure/azure-functions/functions-triggers-bindings
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
"""A binding as in ``function.json``: ``type``, ``direction``, ``name``, and the settings of its type."""

_EMPTY: Binding = MappingProxyType({})
# %SETTING% stands for the value of an app setting: .../functions-bindings-expressions-patterns
_SETTING = re.compile(r"%([^%]+)%")


class Declaration(NamedTuple):
    """The name and bindings of a function.

    Attributes:
        name: under which it is registered; None if unknown.
        trigger: the binding of its trigger; empty if unknown.
        return_type: the type of the binding ``$return``; None without one.
        http_type: ``function``, or ``asgi`` or ``wsgi`` for a function that passes all requests to an application.
    """

    name: str | None = None
    trigger: Binding = _EMPTY
    return_type: str | None = None
    http_type: str = "function"

    @property
    def kind(self) -> str | None:
        """The type of the trigger."""
        kind = self.trigger.get("type")
        return kind if isinstance(kind, str) else None

    @property
    def parameter(self) -> str | None:
        """The name of the trigger's parameter."""
        name = self.trigger.get("name")
        return name if isinstance(name, str) else None

    def setting(self, *keys: str) -> str | None:
        """The first of these settings that the trigger has, with app settings filled in."""
        for key in keys:
            value = self.trigger.get(key)
            if isinstance(value, str) and value:
                return _SETTING.sub(lambda name: os.environ.get(name[1]) or name[0], value)
        return None


NOTHING_DECLARED = Declaration()


def declared_by(function: Any) -> Declaration:
    """The declaration by the decorators of an app.

    Args:
        function: a ``Function`` of ``azure.functions``, which may still be incomplete.
    """
    trigger = contained("read a function's trigger", lambda: _trigger_of(function), _EMPTY)
    bindings = [
        {"type": binding.type, "name": binding.name, "direction": binding.direction}
        for binding in function.get_bindings()
    ]
    return Declaration(
        contained("read a function's name", function.get_function_name, None), trigger, _return_type(bindings),
        str(getattr(function, "http_type", None) or "function"),
    )


def _trigger_of(function: Any) -> Binding:
    trigger = function.get_trigger()
    # A copy, as the app may still change the trigger's own dictionary.
    return _EMPTY if trigger is None else {**trigger.get_dict_repr(), "type": trigger.type, "name": trigger.name}


@functools.lru_cache(maxsize=256)
def declared_in(directory: str) -> Declaration:
    """The declaration in ``function.json`` of the first programming model; NOTHING_DECLARED without that file.

    Args:
        directory: of the function.
    """
    try:
        text = (Path(directory) / "function.json").read_text(encoding="utf-8-sig")
    except OSError:
        return NOTHING_DECLARED
    bindings = [binding for binding in json.loads(text).get("bindings", ()) if isinstance(binding, dict)]
    trigger = next((each for each in bindings if str(each.get("type", "")).lower().endswith("trigger")), _EMPTY)
    if not trigger:
        return NOTHING_DECLARED
    return Declaration(Path(directory).name, trigger, _return_type(bindings))  # the host uses the directory's name


def _return_type(bindings: Iterable[Binding]) -> str | None:
    return next((str(binding.get("type")) for binding in bindings if binding.get("name") == "$return"), None)
