"""The options of ``trace-guard lint``."""

from __future__ import annotations

import argparse

__all__ = ["add_lint"]


def add_lint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a directory, or - for standard input")
    parser.add_argument(
        "--format", choices=("text", "json", "github", "sarif"), default="text",
        help="github prints annotations for a workflow, sarif a log for code scanning (default: text)",
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("--select", action="append", metavar="CODES", help="only these rules, such as TG001,TG002")
    parser.add_argument(
        "--fix", action="store_true",
        help="put spans into `with` where that is safe; the fixed text of standard input goes to standard output",
    )
    parser.add_argument("--ignore", action="append", metavar="CODES", help="not these rules")
