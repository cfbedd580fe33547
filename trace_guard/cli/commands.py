"""The table of commands. A new one is a line in :data:`COMMANDS`."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..settings import Settings
from .lint_options import add_lint
from .reap_options import add_reap

__all__ = ["COMMANDS", "GROUPS", "Command", "Run"]

Run: TypeAlias = Callable[[argparse.Namespace, Settings], int]
Options: TypeAlias = Callable[[argparse.ArgumentParser], object]

GROUPS = {"look": "Look at traces", "repair": "Repair what was left behind", "run": "Run something", "deploy": "Deploy"}
"""What people want, in the order of the help."""


class Command(NamedTuple):
    """A command.

    Attributes:
        group: a key of :data:`GROUPS`.
        help: one line for the list of commands.
        examples: lines of a shell; the first one is the most common.
        run: the module and the function, as ``module:function``. It is imported only when the command is called, so
            that every command starts fast. That of ``run`` takes the command to run instead of the settings.
        options: adds its options to the parser.
        json: it has ``--json``.
        notes: more text for its own help.
    """

    name: str
    group: str
    help: str
    examples: tuple[str, ...]
    run: str
    options: Options = lambda parser: None
    json: bool = True
    notes: str = ""

    def load(self) -> Any:
        """The function that runs it: a :data:`Run`."""
        module, _, function = self.run.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), function)


def _traces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_whole, default=50, metavar="N", help="the most traces to list (default: 50)")
    parser.add_argument("--project", metavar="P", help="list only traces of this project")


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", help="the root span's id, or its first characters")
    parser.add_argument(
        "--payloads", action="store_true", help="show inputs, outputs, metadata and errors in full; --json always does"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the waterfall as a picture instead")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the trace as one HTML file instead")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--send", action="store_true", help="send one test trace and read it back")
    parser.add_argument(
        "--module", metavar="M", help="import this module as its server does, and check what it did to the SDK"
    )


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, metavar="N", help="the port to listen on (default: 8765, or a free one)")
    parser.add_argument("--project", metavar="P", help="show a project in Braintrust instead of the local store")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port on the loopback address (default: a free one)"
    )


def _recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS",
        help="most seconds to wait for the backend (default: 30)",
    )
    parser.add_argument(
        "--refused", action="store_true",
        help="send rows again that the backend has refused for good, after the cause is mended",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.usage = "trace-guard run [--name N] [--grace SECONDS] [--project P] -- COMMAND ..."
    parser.add_argument(
        "--name", metavar="N", help="name of the root span (default: the name of the program or script)"
    )
    parser.add_argument(
        "--grace", type=_seconds, metavar="SECONDS",
        help="time between the platform's SIGTERM and its SIGKILL (default: the platform's, usually 30); a program "
             "that is still running shortly before the end is killed, so that its trace can be closed and delivered",
    )
    parser.add_argument("--project", metavar="P", help="Braintrust project, instead of TRACE_GUARD_PROJECT")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def _layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="layer.zip", metavar="FILE", help="the zip to write (default: layer.zip)")
    parser.add_argument(
        "--arch", choices=("x86_64", "arm64"), default="x86_64", help="the function's architecture (default: x86_64)"
    )
    parser.add_argument(
        "--python", action="append", type=_python, metavar="X.Y",
        help="the function's Python version, such as 3.12; repeatable (default: the version of this command)",
    )
    parser.add_argument(
        "--no-dependencies", dest="dependencies", action="store_false",
        help="leave out braintrust and its dependencies, for functions that include them",
    )


COMMANDS = (
    Command(
        "traces", "look", "list the traces in the local store, newest first",
        ("trace-guard traces", "trace-guard traces --project support-bot --limit 10",
         "trace-guard traces --json | jq '.traces[] | select(.outcome != \"ok\")'"),
        "traces:list_traces", _traces,
    ),
    Command(
        "show", "look", "show one trace: its spans, their durations, and how each was closed",
        ("trace-guard show 3f9a", "trace-guard show 3f9a --payloads", "trace-guard show 3f9a --json"),
        "traces:show_trace", _show,
    ),
    Command(
        "status", "look",
        "show undelivered rows, journals of dead processes and refused rows; exit code 1 if there is a problem",
        ("trace-guard status", "trace-guard status --dir /mnt/trace-guard --json"), "journals:show_status",
    ),
    Command(
        "ui", "look", "open a page that shows traces as they run",
        ("trace-guard ui", "trace-guard ui --project support-bot --no-open"), "page:serve_page", _ui, json=False,
    ),
    Command(
        "doctor", "look", "check what makes traces hang or go missing here; exit code 1 if there is a problem",
        ("trace-guard doctor", "trace-guard doctor --send", "trace-guard doctor --module app --json"),
        "doctor:examine", _doctor,
    ),
    Command(
        "lint", "look", "find code that leaves traces in progress; exit code 1 if there is any",
        ("trace-guard lint src", "trace-guard lint src tests --ignore TG004 --format github"),
        "lint:lint_paths", add_lint, json=False,
        notes="docs/lint.md describes the rules. `# trace-guard: ignore[TG001]` on a line silences a rule there.",
    ),
    Command(
        "recover", "repair", "close and deliver the traces that dead processes left behind",
        ("trace-guard recover", "trace-guard recover --timeout 300", "trace-guard recover --refused"),
        "journals:recover_orphans", _recover,
    ),
    Command(
        "reap", "repair", "find traces that are stuck in Braintrust, explain them, and close them",
        ("trace-guard reap --project support-bot", "trace-guard reap --project support-bot --older-than 2h --close"),
        "reap:reap_traces", add_reap,
        notes="A trace is stuck if it is open and nothing has happened in it for a while. Nothing is changed without "
              "--close. Durations are seconds, or numbers with s, m, h, d or w, such as 90, 30m or 1h30m.",
    ),
    Command(
        "send", "repair", "send the traces in the local store to Braintrust", ("trace-guard send",),
        "send:send_store", json=False,
    ),
    Command(
        "run", "run", "run a program and trace it; its trace is closed and delivered even if the program is killed",
        ("trace-guard run --name nightly-eval -- python evals/nightly.py --model gpt-x",), "run:run_command", _run,
        json=False,
        notes="The exit status is the program's, or 128 plus the number of the signal that killed it; 126 if the "
              "program can't be executed, 127 if it does not exist.",
    ),
    Command(
        "demo", "run", "run a guarded Lambda function that fails in every way, against a simulated Braintrust",
        ("trace-guard demo",), "demo:run_demo", json=False,
    ),
    Command(
        "serve", "run",
        "run a simulated Braintrust on the local store, for development with SDKs and tools of any language",
        ("trace-guard serve --port 8000",), "serve:serve_store", _serve, json=False,
    ),
    Command(
        "layer", "deploy",
        "build a Lambda layer: the packages, an extension that outlives the function, and a wrapper that guards "
        "functions without code changes",
        ("trace-guard layer --python 3.13 --arch arm64 --output layer.zip",), "layer:build_layer", _layer, json=False,
    ),
)


def _python(text: str) -> str:
    major, _, minor = text.partition(".")
    if major != "3" or not minor.isdecimal() or int(minor) < 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a Python version from 3.10 on, such as 3.12")
    return text


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds
