"""The options of ``trace-guard``, and what its exit code says: 0 all is well, 1 something is wrong, 2 it was
called wrongly."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TypeAlias

from .. import __version__
from ..errors import SettingsError, TraceGuardError
from ..redaction.outside_text import print_error, printable
from ..settings import Settings

__all__ = ["main"]

Command: TypeAlias = Callable[[argparse.Namespace, Settings], int]

_CALLED_WRONGLY = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code.

    Args:
        argv: the arguments after the program's name; by default those of this process.

    Raises:
        SystemExit: the arguments are not understood, or ask for help or the version.
    """
    # Behind it everything is the command's to be run, whatever it looks like.
    words = list(sys.argv[1:] if argv is None else argv)
    behind = words.index("--") if "--" in words else len(words)
    parser = _parser()
    arguments = parser.parse_args(words[:behind])
    if arguments.command == "run":
        return _run(arguments, words[behind + 1 :])
    if behind < len(words):
        parser.error("only `trace-guard run` takes a command behind `--`")
    if isinstance(sys.stdout, TextIOWrapper):
        # A name in a trace may hold letters that the terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings = Settings.from_env(dir=getattr(arguments, "dir", None))
        code = _command(arguments.command)(arguments, settings)
        sys.stdout.flush()
        return code
    except SettingsError as error:
        print_error(error)
        return _CALLED_WRONGLY
    except TraceGuardError as error:
        print_error(error)
        return 1
    except BrokenPipeError:
        # `trace-guard traces | head` has seen enough. The exit of Python would else complain as it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    if arguments.words:
        from ..payload import Payload
        from ..supervisor.redact_command import redact_command

        words = printable(shlex.join(redact_command(arguments.words, Payload())))
        arguments.fail(f"the command comes behind `--`: trace-guard run [options] -- {words}")
    if not command or not command[0]:
        arguments.fail("a command is missing: trace-guard run [options] -- COMMAND [arguments]")
    from .run import run_command

    return run_command(arguments, command)


def _command(name: str) -> Command:
    """Commands are imported when they are called, so that each starts as fast as it can."""
    if name in ("traces", "show"):
        from . import traces

        return traces.list_traces if name == "traces" else traces.show_trace
    if name in ("status", "recover"):
        from . import journals

        return journals.show_status if name == "status" else journals.recover_orphans
    if name == "layer":
        from . import layer

        return layer.build_layer
    from . import demo

    return demo.run_demo


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trace-guard", description="No Braintrust trace stays in progress.",
        epilog="Exit code: 0 if all is well, 1 if something is wrong, 2 if it was called wrongly.",
    )
    parser.add_argument("--version", action="version", version=f"trace-guard {__version__}")
    # Accepted before and after the command's name; SUPPRESS keeps the later parser from undoing the earlier.
    everywhere = argparse.ArgumentParser(add_help=False)
    for each in (parser, everywhere):
        each.add_argument(
            "--dir", default=argparse.SUPPRESS, metavar="DIR",
            help="trace-guard's directory, instead of TRACE_GUARD_DIR",
        )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="for machines")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    traces = commands.add_parser(
        "traces", parents=[everywhere, as_json], help="list the traces in the local store, newest first"
    )
    traces.add_argument("--limit", type=_whole, default=50, metavar="N", help="how many at most (default: 50)")
    traces.add_argument("--project", metavar="P", help="only those of this project")
    show = commands.add_parser(
        "show", parents=[everywhere, as_json],
        help="show one trace: its spans, how long they took, how each was closed",
    )
    show.add_argument("root", metavar="ROOT", help="the root span's id, or its first characters")
    commands.add_parser(
        "status", parents=[everywhere, as_json],
        help="what lies in the journals: undelivered rows, dead processes, refused rows; exit code 1 if any is wrong",
    )
    recover = commands.add_parser(
        "recover", parents=[everywhere, as_json], help="close and deliver what dead processes left behind"
    )
    recover.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS",
        help="most seconds to wait for the backend (default: 30)",
    )
    run = commands.add_parser(
        "run", parents=[everywhere], usage="trace-guard run [--name N] [--grace SECONDS] [--project P] -- COMMAND ...",
        help="run a program as a trace of its own, which is closed and delivered also if the program is killed",
        epilog="The exit status is that of the program, or 128 and the number of the signal that killed it. 126 and "
               "127: it can't be executed, or is not there.",
    )
    run.set_defaults(fail=run.error)
    run.add_argument("--name", metavar="N", help="of the root span (default: the name of the program or script)")
    run.add_argument(
        "--grace", type=_seconds, metavar="SECONDS",
        help="between the platform's SIGTERM and its SIGKILL (default: those of the platform, mostly 30): a program "
             "that has not ended shortly before is killed, so that its trace can be closed and delivered",
    )
    run.add_argument("--project", metavar="P", help="Braintrust project, instead of TRACE_GUARD_PROJECT")
    run.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    commands.add_parser(
        "demo", parents=[everywhere],
        help="guard a real Lambda function that fails in every way, against a stand-in of Braintrust",
    )
    layer = commands.add_parser(
        "layer", parents=[everywhere],
        help="build a Lambda layer: the packages, an extension that outlives the function, and a wrapper for "
             "functions whose code is to stay as it is",
    )
    layer.add_argument("--output", default="layer.zip", metavar="FILE", help="the zip to write (default: layer.zip)")
    layer.add_argument(
        "--arch", choices=("x86_64", "arm64"), default="x86_64", help="of the function (default: x86_64)"
    )
    layer.add_argument(
        "--python", action="append", type=_python, metavar="X.Y",
        help="of the function, such as 3.12; may be given several times (default: that of this command)",
    )
    layer.add_argument(
        "--no-dependencies", dest="dependencies", action="store_false",
        help="leave out braintrust and what it needs, for functions that bring it",
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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds
