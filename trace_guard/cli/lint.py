"""``trace-guard lint``: finds code that leaves traces in progress or loses them."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import SettingsError
from ..lint.check import Unreadable, check
from ..lint.report import FORMATS, Failure, Report
from ..lint.rules import RULES, Finding
from ..lint.sources import python_files
from ..settings import Settings

__all__ = ["lint_paths"]

_STDIN = "-"


def lint_paths(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the findings. Returns 1 if there are any, 2 if a file can't be read.

    Raises:
        SettingsError: libcst is missing, a path does not exist, or a code is unknown.
    """
    if importlib.util.find_spec("libcst") is None:
        raise SettingsError('lint needs libcst, which is not installed: pip install "trace-guard[lint]"')
    codes = (_codes(arguments.select) or set(RULES)) - _codes(arguments.ignore)
    findings: list[Finding] = []
    failures: list[Failure] = []
    files = 0
    fixes = 0
    for name, read in _sources(arguments.paths):
        files += 1
        try:
            data = read()
            found = [finding for finding in check(data, name) if finding.code in codes]
            if arguments.fix and (name == _STDIN or any(finding.fixable for finding in found)):
                data, count = _fix(data, name, codes)
                fixes += count
                found = [finding for finding in check(data, name) if finding.code in codes]
            findings += found
        except (OSError, Unreadable) as error:
            failures.append(Failure(name, error.strerror or str(error) if isinstance(error, OSError) else str(error)))
    report = Report(findings, failures, files, fixes)
    # With --fix, standard output is for the text of standard input.
    out = sys.stderr if arguments.fix and _STDIN in arguments.paths else sys.stdout
    for line in FORMATS[arguments.format](report):
        print(line, file=out)
    return 2 if failures else int(bool(findings))


def _fix(data: bytes, name: str, codes: set[str]) -> tuple[bytes, int]:
    from ..lint.fix import fixed, write

    mended, count = fixed(data, name, codes)
    if name == _STDIN:
        sys.stdout.buffer.write(mended)
    elif count:
        write(Path(name), mended)
    return mended, count


def _sources(paths: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    named = [Path(path) for path in paths if path != _STDIN]
    for path in named:
        if not path.exists():
            raise SettingsError(f"{path} does not exist")
    if _STDIN in paths:
        yield _STDIN, sys.stdin.buffer.read
    for file in python_files(named):
        yield str(file), file.read_bytes


def _codes(given: Sequence[str] | None) -> set[str]:
    codes = {code.strip().upper() for text in given or () for code in text.split(",") if code.strip()}
    unknown = sorted(codes - set(RULES))
    if unknown:
        raise SettingsError(f"there is no rule {', '.join(unknown)}; the rules are {', '.join(RULES)}")
    return codes
