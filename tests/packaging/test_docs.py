"""The README and the pages of docs/: links, sizes, and code that at least compiles."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "examples" / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


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
def test_python_is_valid(page: Path) -> None:
    """Every block of Python in the docs parses."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        code = textwrap.dedent(block)
        if "await " in code and "async def" not in code:
            code = "async def block():\n" + textwrap.indent(code, "    ")
        ast.parse(code)


def test_the_readme_is_short() -> None:
    """The README can be read in five minutes."""
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_the_index_has_every_page() -> None:
    """docs/index.md leads to every page."""
    index = (REPOSITORY / "docs" / "index.md").read_text()
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_index_of_examples_has_every_example() -> None:
    """examples/README.md leads to every example."""
    index = (REPOSITORY / "examples" / "README.md").read_text()
    for example in (REPOSITORY / "examples").iterdir():
        assert not example.is_dir() or example.name.startswith(("_", ".")) or f"({example.name})" in index, example.name
