"""The README and the pages of docs/: links, sizes, sentences, and code that at least compiles."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import proselint.checks
import pytest
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")), *sorted((REPOSITORY / "examples").glob("**/*.md")),
]


_MOST_WORDS = 35

# Markdown's quotation marks are straight, inline code stands in for words, and a server is called waitress.
CheckRegistry().register_many(proselint.checks.__register__)
_STYLE = {**DEFAULT, "checks": {
    **DEFAULT["checks"], **dict.fromkeys(("typography", "lexical_illusions", "dates_times", "social_awareness"), False),
}}


def sentences(page: str) -> list[str]:
    """The sentences of a page without its code; a cell of a table and an item of a list are a paragraph each."""
    text = re.sub(r"^```.*?^```$|^<!--.*?-->$", "", page, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s|^#+ .*$|(?<!\\)\|", text, flags=re.MULTILINE)
    return [sentence for paragraph in paragraphs for sentence in re.split(r"(?<=[.!?:;])\s+", paragraph)]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project leads to one that exists, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    """Every test that a page names, as the proof of what it says, is there."""
    named = re.findall(r"`(tests/[\w/.]+)`", page.read_text())
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_is_valid(page: Path) -> None:
    """Every block of Python in the docs parses."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        code = textwrap.dedent(block)
        if "await " in code and "async def" not in code:
            code = "async def block():\n" + textwrap.indent(code, "    ")
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    """No sentence has more than 35 words, so that it can be read once."""
    assert [found for found in sentences(page.read_text()) if len(found.split()) > _MOST_WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_style(page: Path) -> None:
    """The prose has no cliché, archaism, redundancy or other fault that proselint finds."""
    found = LintFile(page.name, "\n".join(sentences(page.read_text()))).lint(_STYLE)
    assert [result.check_result.message for result in found] == []


@pytest.mark.parametrize("symptom", [
    "in progress for hours", "missing end timestamp", "child spans complete, parent open",
    "traces missing after deploy", "no automatic timeout", "flush() hangs",
])
def test_a_symptom_can_be_searched_for(symptom: str) -> None:
    """The words that people have for a symptom are in the docs, in the page on symptoms."""
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text().replace("`", "").lower()
    assert symptom in page


def test_the_readme_is_short() -> None:
    """The README can be read in five minutes."""
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_the_index_has_every_page() -> None:
    """docs/index.md leads to every page."""
    index = (REPOSITORY / "docs" / "index.md").read_text()
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_every_example_is_described() -> None:
    """examples/README.md leads to every example, which has a README of one screen."""
    index = (REPOSITORY / "examples" / "README.md").read_text()
    for example in (REPOSITORY / "examples").iterdir():
        if example.is_dir() and not example.name.startswith(("_", ".")):
            assert f"({example.name})" in index, example.name
            assert len((example / "README.md").read_text().splitlines()) <= 50, example.name
