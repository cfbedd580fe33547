"""The options of ``trace-guard reap``."""

from __future__ import annotations

import argparse
import datetime
import time

from ..errors import SettingsError
from ..repair.durations import seconds_of

__all__ = ["add_reap", "backend_of", "length"]


def add_reap(reap: argparse.ArgumentParser) -> None:
    """Add the options to the parser of the command."""
    reap.add_argument("--project", action="append", default=[], metavar="NAME|ID",
                      help="project to search; repeatable (default: TRACE_GUARD_PROJECT)")
    reap.add_argument("--all-projects", action="store_true", help="search every project of the organisation")
    reap.add_argument("--experiment", action="append", default=[], metavar="NAME|ID",
                      help="experiment to search; repeatable")
    reap.add_argument("--older-than", type=length, default=3600.0, metavar="DURATION",
                      help="how long nothing has happened anywhere in the trace (default: 1h)")
    reap.add_argument("--since", type=_since, default=30 * 86400.0, metavar="DURATION|TIME",
                      help="how far back to search, or a time in ISO format (default: 30d)")
    reap.add_argument("--filter", metavar="SQL", help="only traces with an open span that this condition is true for")
    reap.add_argument("--limit", type=_number, metavar="N", help="the most traces to find")
    reap.add_argument("--close", action="store_true", help="close the traces; without it nothing is changed")
    reap.add_argument("--error", metavar="TEXT", help="the error of each span that is closed (default: none)")
    reap.add_argument("--output", metavar="FILE",
                      help="write the closing rows to a file instead, for `bt sync push project_logs:NAME --in FILE`")
    reap.add_argument("--audit", metavar="FILE", help="append a line of JSON to this file for each closed trace")
    reap.add_argument("--backend", choices=("braintrust", "local"), help="where to search (default: Braintrust)")
    reap.add_argument("--shard", metavar="I/N", help="search only this share of the projects and days, such as 0/8")
    reap.add_argument("--parallel", type=_number, default=2, metavar="N",
                      help="windows of time that are searched at once (default: 2)")


def backend_of(arguments: argparse.Namespace) -> str | None:
    """The backend that the command names."""
    return getattr(arguments, "backend", None)


def length(text: str) -> float:
    """A duration in seconds."""
    try:
        return seconds_of(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _since(text: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return length(text)
    moment = moment if moment.tzinfo else moment.astimezone()
    seconds = time.time() - moment.timestamp()
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is in the future")
    return seconds


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)
