"""The options of ``trace-guard``. The exit code is 0 for success, 1 for a problem, and 2 for a usage error."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TypeAlias

from .. import __version__
from ..errors import SettingsError, TraceGuardError
from ..redaction.outside_text import print_error, printable
from ..settings import Settings
from .reap_options import add_reap, backend_of

__all__ = ["main"]

Command: TypeAlias = Callable[[argparse.Namespace, Settings], int]

_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the arguments after the program's name; by default those of this process.

    Raises:
        SystemExit: the arguments are invalid, or ask for help or the version.
    """
    # Everything after `--` belongs to the command that `run` starts.
    words = list(sys.argv[1:] if argv is None else argv)
    separator = words.index("--") if "--" in words else len(words)
    parser = _parser()
    arguments = parser.parse_args(words[:separator])
    if arguments.command == "run":
        return _run(arguments, words[separator + 1 :])
    if separator < len(words):
        parser.error("only `trace-guard run` takes a command after `--`")
    if isinstance(sys.stdout, TextIOWrapper):
        # Names in traces may have characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings = Settings.from_env(dir=getattr(arguments, "dir", None), backend=backend_of(arguments))
        code = _command(arguments.command)(arguments, settings)
        sys.stdout.flush()
        return code
    except SettingsError as error:
        print_error(error)
        return _USAGE_ERROR
    except TraceGuardError as error:
        print_error(error)
        return 1
    except BrokenPipeError:
        # The reader has closed the pipe: `trace-guard traces | head`. Python would report an error when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    if arguments.words:
        from ..payload import Payload
        from ..supervisor.redact_command import redact_command

        words = printable(shlex.join(redact_command(arguments.words, Payload())))
        arguments.fail(f"the command goes after `--`: trace-guard run [options] -- {words}")
    if not command or not command[0]:
        arguments.fail("a command is missing: trace-guard run [options] -- COMMAND [arguments]")
    from .run import run_command

    return run_command(arguments, command)


def _command(name: str) -> Command:
    """The function of a command. Its module is imported only when it is called, so that every command starts fast."""
    if name in ("traces", "show"):
        from . import traces

        return traces.list_traces if name == "traces" else traces.show_trace
    if name in ("status", "recover"):
        from . import journals

        return journals.show_status if name == "status" else journals.recover_orphans
    if name == "reap":
        from . import reap

        return reap.reap_traces
    if name == "serve":
        from . import serve

        return serve.serve_store
    if name == "ui":
        from . import page

        return page.serve_page
    if name == "send":
        from . import send

        return send.send_store
    if name == "layer":
        from . import layer

        return layer.build_layer
    from . import demo

    return demo.run_demo


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trace-guard", description="No Braintrust trace stays in progress.",
        epilog="Exit code: 0 for success, 1 for a problem, 2 for a usage error.",
    )
    parser.add_argument("--version", action="version", version=f"trace-guard {__version__}")
    # Accepted before and after the command's name; SUPPRESS keeps the later parser from undoing the earlier.
    everywhere = argparse.ArgumentParser(add_help=False)
    for target in (parser, everywhere):
        target.add_argument(
            "--dir", default=argparse.SUPPRESS, metavar="DIR",
            help="trace-guard's directory, instead of TRACE_GUARD_DIR",
        )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    traces = commands.add_parser(
        "traces", parents=[everywhere, as_json], help="list the traces in the local store, newest first"
    )
    traces.add_argument("--limit", type=_whole, default=50, metavar="N", help="the most traces to list (default: 50)")
    traces.add_argument("--project", metavar="P", help="list only traces of this project")
    show = commands.add_parser(
        "show", parents=[everywhere, as_json],
        help="show one trace: its spans, their durations, and how each was closed",
    )
    show.add_argument("root", metavar="ROOT", help="the root span's id, or its first characters")
    show.add_argument("--svg", type=Path, metavar="FILE", help="write the waterfall as a picture instead")
    show.add_argument("--html", type=Path, metavar="FILE", help="write the trace as one HTML file instead")
    commands.add_parser(
        "status", parents=[everywhere, as_json],
        help="show undelivered rows, journals of dead processes and refused rows; exit code 1 if there is a problem",
    )
    recover = commands.add_parser(
        "recover", parents=[everywhere, as_json], help="close and deliver the traces that dead processes left behind"
    )
    recover.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS",
        help="most seconds to wait for the backend (default: 30)",
    )
    commands.add_parser("send", parents=[everywhere], help="send the traces in the local store to Braintrust")
    run = commands.add_parser(
        "run", parents=[everywhere], usage="trace-guard run [--name N] [--grace SECONDS] [--project P] -- COMMAND ...",
        help="run a program and trace it; its trace is closed and delivered even if the program is killed",
        epilog="The exit status is the program's, or 128 plus the number of the signal that killed it; 126 if the "
               "program can't be executed, 127 if it does not exist.",
    )
    run.set_defaults(fail=run.error)
    run.add_argument("--name", metavar="N", help="name of the root span (default: the name of the program or script)")
    run.add_argument(
        "--grace", type=_seconds, metavar="SECONDS",
        help="time between the platform's SIGTERM and its SIGKILL (default: the platform's, usually 30); a program "
             "that is still running shortly before the end is killed, so that its trace can be closed and delivered",
    )
    run.add_argument("--project", metavar="P", help="Braintrust project, instead of TRACE_GUARD_PROJECT")
    run.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    ui = commands.add_parser(
        "ui", parents=[everywhere], help="open a page that shows traces as they run",
    )
    ui.add_argument("--port", type=_port, metavar="N", help="the port to listen on (default: 8765, or a free one)")
    ui.add_argument("--project", metavar="P", help="show a project in Braintrust instead of the local store")
    ui.add_argument("--no-open", action="store_true", help="do not open a browser")
    commands.add_parser(
        "demo", parents=[everywhere],
        help="run a guarded Lambda function that fails in every way, against a simulated Braintrust",
    )
    add_reap(commands, [everywhere, as_json])
    serve = commands.add_parser(
        "serve", parents=[everywhere],
        help="run a simulated Braintrust on the local store, for development with SDKs and tools of any language",
    )
    serve.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port on the loopback address (default: a free one)"
    )
    layer = commands.add_parser(
        "layer", parents=[everywhere],
        help="build a Lambda layer: the packages, an extension that outlives the function, and a wrapper that guards "
             "functions without code changes",
    )
    layer.add_argument("--output", default="layer.zip", metavar="FILE", help="the zip to write (default: layer.zip)")
    layer.add_argument(
        "--arch", choices=("x86_64", "arm64"), default="x86_64", help="the function's architecture (default: x86_64)"
    )
    layer.add_argument(
        "--python", action="append", type=_python, metavar="X.Y",
        help="the function's Python version, such as 3.12; repeatable (default: the version of this command)",
    )
    layer.add_argument(
        "--no-dependencies", dest="dependencies", action="store_false",
        help="leave out braintrust and its dependencies, for functions that include them",
    )
    return parser


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
