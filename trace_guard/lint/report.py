"""Findings as text, JSON, annotations of GitHub Actions, or SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

from ..redaction.outside_text import printable
from .rules import RULES, Finding

__all__ = ["FORMATS", "Failure", "Report"]


class Failure(NamedTuple):
    """A file that could not be read."""

    file: str
    message: str


class Report(NamedTuple):
    """What a run has found.

    Attributes:
        files: how many files were read.
        fixed: how many findings ``--fix`` has mended.
    """

    findings: Sequence[Finding]
    failures: Sequence[Failure]
    files: int
    fixed: int = 0


def _text(report: Report) -> Iterator[str]:
    for finding in report.findings:
        yield f"{_name(finding.file)}:{finding.line}:{finding.column}: {finding.code} {printable(finding.message)}"
        yield f"    why: {finding.rule.why}"
        yield f"    fix: {finding.rule.fix}{' (--fix does it)' if finding.fixable else ''}"
    for failure in report.failures:
        yield f"{_name(failure.file)}: not checked: {printable(failure.message)}"
    if report.fixed:
        yield f"Fixed {_count(report.fixed, 'finding')}."
    yield f"{_count(len(report.findings), 'finding')} in {_count(report.files, 'file')}."


def _json(report: Report) -> Iterator[str]:
    yield json.dumps({
        "findings": [finding.to_json() for finding in report.findings],
        "errors": [failure._asdict() for failure in report.failures],
        "files": report.files, "fixed": report.fixed,
    }, indent=2)


def _github(report: Report) -> Iterator[str]:
    """See "Workflow commands for GitHub Actions" in GitHub's documentation."""
    for finding in report.findings:
        place = {
            "file": finding.file, "line": finding.line, "endLine": finding.end_line, "col": finding.column,
            "endColumn": finding.end_column, "title": f"{finding.code} {finding.rule.name}",
        }
        if finding.end_line != finding.line:
            del place["endColumn"], place["col"]  # columns count within one line only
        text = f"{finding.message}. {finding.rule.why[0].upper()}{finding.rule.why[1:]}. Fix: {finding.rule.fix}."
        yield _annotation(place, text)
    for failure in report.failures:
        yield _annotation({"file": failure.file, "title": "not checked"}, failure.message)


def _annotation(place: dict[str, Any], text: str) -> str:
    fields = ",".join(
        f"{name}={_escaped(str(value)).replace(':', '%3A').replace(',', '%2C')}" for name, value in place.items()
    )
    return f"::error {fields}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _sarif(report: Report) -> Iterator[str]:
    """See https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""
    codes = list(RULES)
    rules = [
        {
            "id": rule.code, "name": rule.name, "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.why}, "help": {"text": rule.fix},
            "defaultConfiguration": {"level": "warning"},
        }
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": finding.code, "ruleIndex": codes.index(finding.code), "level": "warning",
            "message": {"text": f"{finding.message}: {finding.rule.why}. Fix: {finding.rule.fix}."},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": _uri(finding.file)},
                "region": {
                    "startLine": finding.line, "startColumn": finding.column,
                    "endLine": finding.end_line, "endColumn": finding.end_column,
                },
            }}],
        }
        for finding in report.findings
    ]
    notifications = [
        {
            "level": "error", "message": {"text": failure.message},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(failure.file)}}}],
        }
        for failure in report.failures
    ]
    yield json.dumps({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "trace-guard lint", "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
            "invocations": [{
                "executionSuccessful": not report.failures, "toolExecutionNotifications": notifications,
            }],
        }],
    }, indent=2)


FORMATS: dict[str, Callable[[Report], Iterator[str]]] = {
    "text": _text, "json": _json, "github": _github, "sarif": _sarif,
}


def _uri(file: str) -> str:
    """A relative reference as far as it can be, which a service resolves against the repository."""
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _name(file: str) -> str:
    return printable(file)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
