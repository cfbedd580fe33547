"""The deadline of a function. After it the host kills the worker with all its invocations.

https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout and, for the setting,
https://learn.microsoft.com/azure/azure-functions/functions-host-json#functiontimeout. The load balancer waits at most
230 seconds for a response. That is no deadline, as the function keeps running after it.
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
# The host accepts comments and trailing commas in JSON. The first alternative skips strings.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_LEVELS = 5


def deadline(directory: str | None, timeout: float | None = None) -> Deadline | None:
    """When the host will end an invocation that begins now; None without a limit.

    Args:
        directory: of the function.
        timeout: seconds from the guard's settings, which override the host's; 0 for no limit.
    """
    override = os.environ.get(_OVERRIDE, "").strip()
    seconds = (
        contained("read the function's timeout", lambda: _host_seconds(directory, override), None) if timeout is None
        else timeout or None
    )
    return None if seconds is None else Deadline.after(seconds)


def seconds_of(text: str) -> float | None:
    """The seconds of a ``functionTimeout`` such as ``hh:mm:ss``; None for ``-1``, which means no limit.

    Raises:
        ValueError: the text has another form.
    """
    if text.strip() == "-1":
        return None
    match = _TIME_SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups()[:4])
    fraction = float(f"0.{match[5] or 0}")
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + fraction


@functools.lru_cache(maxsize=64)
def _host_seconds(directory: str | None, override: str) -> float | None:
    host = host_file(directory)
    value = override or host.get("functionTimeout")
    if isinstance(value, int):  # the host accepts -1 as well as "-1"
        value = str(value)
    if isinstance(value, str) and value:
        try:
            return seconds_of(value)
        except ValueError:
            warn_once(f"functionTimeout {value}", "functionTimeout is %r, not hh:mm:ss: it is ignored", value)
    if os.environ.get("WEBSITE_SKU") == "Dynamic":
        return _CONSUMPTION_SECONDS
    # Without a host, as in a unit test, there is no limit.
    return _OTHER_SECONDS if host or os.environ.get("WEBSITE_INSTANCE_ID") else None


@functools.lru_cache(maxsize=64)
def host_file(directory: str | None) -> dict[str, Any]:
    """The app's ``host.json``, from the function's directory or one above it; empty if it is not found."""
    for place in _places(directory):
        try:
            text = (place / "host.json").read_text(encoding="utf-8-sig")
        except OSError:
            continue
        try:
            plain = _COMMENT.sub(lambda match: match[1] or " ", text)
            host = json.loads(_LAST_COMMA.sub(lambda match: match[1] or " ", plain))
        except ValueError as error:
            warn_once(str(place), "%s is not JSON: %s", place / "host.json", error)
            return {}
        return host if isinstance(host, dict) else {}
    return {}


def _places(directory: str | None) -> Iterator[Path]:
    root = os.environ.get(_ROOT)
    if root:
        yield Path(root)
    if directory:
        place = Path(directory)
        yield from (place, *list(place.parents)[: _LEVELS - 1])
    yield Path.cwd()
