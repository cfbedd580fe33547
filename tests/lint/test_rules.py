"""What the rules find, and what they leave alone."""

from __future__ import annotations

import re
import textwrap

import pytest
from cases import FINE, HEAD, PROCESS, PROCESS_FINE, SPANS
from support import REPOSITORY

from trace_guard.lint.check import check


def expected(source: str) -> list[tuple[int, str]]:
    return [
        (number, code)
        for number, line in enumerate(source.splitlines(), 1)
        for code in re.findall(r"TG\d{3}", re.sub(r"(trace-guard|noqa):.*", "", line).partition("#")[2])
    ]


def found(source: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.code) for finding in check(source.encode(), "case.py")]


@pytest.mark.parametrize("code", SPANS.values(), ids=SPANS)
def test_a_span_that_can_stay_open(code: str) -> None:
    """A span that its function can leave open is reported at its start, once, and nothing else is."""
    source = HEAD + textwrap.dedent(code)
    assert expected(source) != []
    assert found(source) == expected(source)


@pytest.mark.parametrize("code", PROCESS.values(), ids=PROCESS)
def test_a_process_that_ends_too_early(code: str) -> None:
    """Handlers without a flush, spans at import, hard exits and lost threads are reported where they are."""
    source = HEAD + textwrap.dedent(code)
    assert expected(source) != []
    assert found(source) == expected(source)


@pytest.mark.parametrize("code", [*FINE.values(), *PROCESS_FINE.values()], ids=[*FINE, *PROCESS_FINE])
def test_code_that_is_right(code: str) -> None:
    """What ends and flushes on every path, or is handed on, is not reported."""
    assert found(HEAD + textwrap.dedent(code)) == []


@pytest.mark.parametrize("block", re.findall(
    r"^```python\n(.*?)^```$", (REPOSITORY / "docs" / "lint.md").read_text(), re.MULTILINE | re.DOTALL
))
def test_the_page_shows_what_is_found(block: str) -> None:
    """The examples of docs/lint.md have the findings that their comments name."""
    source = f"{HEAD}import os, threading\nfrom braintrust import traced\nfrom celery import Celery\n{block}"
    assert found(source) == expected(source)


@pytest.mark.parametrize(
    "comment", ["# noqa", "# noqa: E501", "# trace-guard: ignore[TG002]", "# trace-guard: ignore-not"]
)
def test_a_comment_for_another_rule(comment: str) -> None:
    """A comment that does not name the rule silences nothing."""
    source = f"{HEAD}def f():\n    span = start_span('a')  {comment}\n    text = '# trace-guard: ignore'\n"
    assert found(source) == [(5, "TG001")]


def test_a_module_that_is_handed_spans() -> None:
    """A child of a parameter that is a span is reported without an import of the SDK, unless another library traces."""
    source = "def f(trace_span):\n    child = trace_span.start_span('a')\n    work()\n    child.end()\n"
    assert found(source) == [(2, "TG001")]
    assert found(f"import mlflow\n{source}") == []
    assert found(source.replace("trace_span", "client")) == []
