"""When the host gives a function up: it then kills the worker, and with it all else that the worker is doing.

https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout and, for the setting,
https://learn.microsoft.com/azure/azure-functions/functions-host-json#functiontimeout. The answer to a request has 230
seconds at the load balancer; past them the function goes on, so that this is no deadline of it.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trace_guard import Deadline
from trace_guard.contain import contained, warn_once

__all__ = ["deadline", "host_file", "seconds_of"]

_OVERRIDE = "AzureFunctionsJobHost__functionTimeout"
_ROOT = "AzureWebJobsScriptRoot"
_CONSUMPTION_SECONDS = 300.0
_OTHER_SECONDS = 1800.0
# .NET's TimeSpan: d.hh:mm:ss
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?")
# The host reads JSON with comments, and with commas after the last of several; those in strings are none.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_LEVELS = 5


def deadline(directory: str | None, timeout: float | None = None) -> Deadline | None:
    """When the host will give up an invocation that begins now; None if never.

    Args:
        directory: of the function.
        timeout: the seconds of the guard's settings, which count before what the host's say; 0 for no bound.
    """
    override = os.environ.get(_OVERRIDE, "").strip()
    seconds = (
        contained("read the function's timeout", lambda: _hosts(directory, override), None) if timeout is None
        else timeout or None
    )
    return None if seconds is None else Deadline.after(seconds)


def seconds_of(text: str) -> float | None:
    """The seconds of a ``functionTimeout``, ``hh:mm:ss`` say; None for ``-1``, which is without a bound.

    Raises:
        ValueError: it is no such text.
    """
    if text.strip() == "-1":
        return None
    found = _TIME_SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(one or 0) for one in found.groups()[:4])
    fraction = float(f"0.{found[5] or 0}")
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + fraction


@functools.lru_cache(maxsize=64)
def _hosts(directory: str | None, override: str) -> float | None:
    host = host_file(directory)
    told = override or host.get("functionTimeout")
    if isinstance(told, int):  # the host reads -1 as it does "-1"
        told = str(told)
    if isinstance(told, str) and told:
        try:
            return seconds_of(told)
        except ValueError:
            warn_once(f"functionTimeout {told}", "functionTimeout is %r, which is no hh:mm:ss: it is ignored", told)
    if os.environ.get("WEBSITE_SKU") == "Dynamic":
        return _CONSUMPTION_SECONDS
    # Without a host, as in a test of the function's own, nobody ends it.
    return _OTHER_SECONDS if host or os.environ.get("WEBSITE_INSTANCE_ID") else None


@functools.lru_cache(maxsize=64)
def host_file(directory: str | None) -> dict[str, Any]:
    """The app's ``host.json``, empty if it can't be found: at the root of the app, which is the function's directory,
    or above it."""
    for place in _places(directory):
        try:
            text = (place / "host.json").read_text(encoding="utf-8-sig")
        except OSError:
            continue
        try:
            plain = _COMMENT.sub(lambda one: one[1] or " ", text)
            found = json.loads(_LAST_COMMA.sub(lambda one: one[1] or " ", plain))
        except ValueError as error:
            warn_once(str(place), "%s is no JSON: %s", place / "host.json", error)
            return {}
        return found if isinstance(found, dict) else {}
    return {}


def _places(directory: str | None) -> Iterator[Path]:
    root = os.environ.get(_ROOT)
    if root:
        yield Path(root)
    if directory:
        place = Path(directory)
        yield from (place, *list(place.parents)[: _LEVELS - 1])
    yield Path.cwd()
