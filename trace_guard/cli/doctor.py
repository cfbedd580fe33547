"""``trace-guard doctor``: checks what makes traces hang or go missing here and now."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from ..doctor.finding import Finding, Level
from ..settings import Settings
from .tables import Column, Styled, print_table, say

__all__ = ["examine"]

_STYLES = {Level.GOOD: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red", Level.SKIPPED: "dim"}


def examine(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the findings as a table, or as ``{"findings": [...]}``. Returns 1 if there is a problem."""
    findings = list(_findings(arguments, settings))
    if arguments.json:
        print(json.dumps({"findings": [finding.to_json() for finding in findings]}))
    else:
        columns = (Column("checked"), Column("result"), Column("found", folds=True), Column("what to do", folds=True))
        print_table(columns, [
            (finding.what, Styled(finding.level.value, _STYLES[finding.level]), finding.found, finding.advice or "-")
            for finding in findings
        ])
        problems = sum(finding.level is Level.PROBLEM for finding in findings)
        say("No problem was found." if not problems else f"{problems} problem{'' if problems == 1 else 's'}.")
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def _findings(arguments: argparse.Namespace, settings: Settings) -> Iterator[Finding]:
    from ..doctor.machine import machine_findings
    from ..doctor.program import program_findings
    from ..doctor.service import send_findings, service_findings

    yield from machine_findings(settings)
    yield from service_findings(settings)
    if arguments.module:
        yield from program_findings(arguments.module, settings)
    if arguments.send:
        yield from send_findings(settings)
