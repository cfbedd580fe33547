"""The options of ``trace-guard``. The exit code is 0 for success, 1 for a problem, and 2 for a usage error."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from .. import __version__
from ..errors import SettingsError, TraceGuardError
from ..redaction.outside_text import print_error, printable
from ..settings import Settings
from .commands import COMMANDS
from .help import MainParser, about_command
from .reap_options import backend_of

__all__ = ["main"]

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
        code: int = arguments.load()(arguments, settings)
        sys.stdout.flush()
        return code
    except SettingsError as error:
        print_error(error)
        return _USAGE_ERROR
    except TraceGuardError as error:
        from .words import with_advice  # only commands that print tables need the module

        print_error(with_advice(error))
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
    code: int = arguments.load()(arguments, command)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = MainParser(
        prog="trace-guard", description="No Braintrust trace stays in progress.",
        epilog="`trace-guard COMMAND --help` shows examples. Exit code: 0 for success, 1 for a problem, 2 for a usage "
               "error.",
    )
    parser.add_argument(
        "--version", action="version", version=f"trace-guard {__version__}", help="print the version"
    )
    # Accepted before and after the command's name; SUPPRESS keeps the later parser from undoing the earlier.
    everywhere = argparse.ArgumentParser(add_help=False)
    for target in (parser, everywhere):
        target.add_argument(
            "--dir", default=argparse.SUPPRESS, metavar="DIR",
            help="trace-guard's directory, instead of TRACE_GUARD_DIR",
        )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    names = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND",
        parser_class=argparse.ArgumentParser,  # by default the class of this parser, with its list of commands
    )
    for command in COMMANDS:
        description, epilog = about_command(command)
        own = names.add_parser(
            command.name, parents=[everywhere, as_json] if command.json else [everywhere], description=description,
            epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.options(own)
        own.set_defaults(load=command.load, fail=own.error)
    return parser
