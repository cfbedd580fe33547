"""Functions of the v1 programming model, whose metadata the host reads and sends to the worker."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

__all__ = ["read_function_json"]


def read_function_json(path: Path) -> dict[str, Any]:
    """The metadata of a function.

    Args:
        path: of its ``function.json``, whose folder has its name.
    """
    said = json.loads(path.read_text())
    name = path.parent.name
    return {
        "name": name, "function_id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)), "directory": str(path.parent),
        "script_file": str(path.parent / said["scriptFile"]), "entry_point": said.get("entryPoint", ""),
        "bindings": {
            each["name"]: {"type": each["type"], "direction": each.get("direction", "in")}
            for each in said["bindings"]
        },
    }
