"""``trace-guard lint --fix``: what it changes, what it refuses, and that the code does the same."""

from __future__ import annotations

import io
import os
import stat
import sys
import textwrap
from pathlib import Path
from typing import Any

import braintrust
import pytest
from braintrust.logger import _internal_with_memory_background_logger

from trace_guard.cli import main
from trace_guard.lint.check import check
from trace_guard.lint.fix import fixed
from trace_guard.lint.rules import RULES

HEAD = "import braintrust\nfrom braintrust import start_span\n"

MENDED = {
    "one block": (
        """
        def f(question):
            span = start_span("a")
            span.log(input=question)
            answer = work(question)
            span.log(output=answer)
            span.end()
            return answer
        """,
        """
        def f(question):
            with start_span("a") as span:
                span.log(input=question)
                answer = work(question)
                span.log(output=answer)
            return answer
        """,
    ),
    "comments and formatting": (
        """
        def f( question ):
              # why
              span = start_span(   # what
                  name = 'a',
                  # more
                  input={'q':question},)  # the start

              # the work
              text = '''
        not indented
          ''' ;  answer = work(question,
                      text)  # how
              # before the end

              span.end()   # the end
              # behind

              return  answer
        """,
        """
        def f( question ):
              # why
              with start_span(   # what
                  name = 'a',
                  # more
                  input={'q':question},) as span:  # the start

                    # the work
                    text = '''
        not indented
          ''' ;  answer = work(question,
                            text)  # how
                    # before the end

                    # the end
              # behind

              return  answer
        """,
    ),
    "jumps": (
        """
        def f(questions):
            for question in questions:
                span = start_span("a")
                if question == 1:
                    continue
                if question == 3:
                    break
                work(question)
                span.end()
            return span.id is not None
        """,
        """
        def f(questions):
            for question in questions:
                with start_span("a") as span:
                    if question == 1:
                        continue
                    if question == 3:
                        break
                    work(question)
            return span.id is not None
        """,
    ),
    "parent and child": (
        """
        root = start_span("a")
        child = root.start_span("b")
        work(1)
        child.end()
        root.close()
        """,
        """
        with start_span("a") as root:
            with root.start_span("b") as child:
                work(1)
        """,
    ),
    "tabs": (
        """
        def f():
        \tspan = start_span("a")
        \twork(1)
        \tspan.end()
        """,
        """
        def f():
        \twith start_span("a") as span:
        \t\twork(1)
        """,
    ),
    "not the current span": (
        """
        def f():
            span = start_span("a", set_current=False)
            with start_span("b"):
                work(1)
            span.end()
        """,
        """
        def f():
            with start_span("a", set_current=False) as span:
                with start_span("b"):
                    work(1)
        """,
    ),
}

REFUSED = {
    "never ended": """
        def f():
            span = start_span("a")
            work(1)
    """,
    "an end with a time": """
        def f():
            span = start_span("a")
            work(1)
            span.end(end_time=1)
    """,
    "several ends": """
        def f(x):
            span = start_span("a")
            if x:
                span.end()
                return
            work(x)
            span.end()
    """,
    "an end in another block": """
        def f(x):
            span = start_span("a")
            if x:
                work(x)
                span.end()
    """,
    "the name is given away": """
        def f():
            span = start_span("a")
            work(1)
            span = None
            span.end()
    """,
    "another span would become its child": """
        def f():
            span = start_span("a")
            with start_span("b"):
                work(1)
            span.end()
    """,
    "a traced function would become its child": """
        @braintrust.traced
        def g():
            return 1
        def f():
            span = start_span("a")
            g()
            span.end()
    """,
    "made current by hand": """
        def f():
            span = start_span("a")
            span.set_current()
            work(1)
            span.unset_current()
            span.end()
    """,
    "async": """
        async def f():
            span = start_span("a")
            await work(1)
            span.end()
    """,
    "a generator": """
        from contextlib import contextmanager
        @contextmanager
        def f():
            span = start_span("a")
            yield span
            span.end()
    """,
    "a try with finally": """
        def f():
            span = start_span("a")
            try:
                work(1)
            finally:
                done()
            span.end()
    """,
    "statements on one line": """
        def f():
            x = 1; span = start_span("a")
            work(1)
            span.end()
        def g(): span = start_span("a"); work(1); span.end()
    """,
    "silenced": """
        def f():
            span = start_span("a")  # trace-guard: ignore
            work(1)
            span.end()
    """,
}


def mended(source: str) -> str:
    return fixed(source.encode(), "a.py", set(RULES))[0].decode()


@pytest.mark.parametrize(("before", "after"), MENDED.values(), ids=MENDED)
def test_what_it_changes(before: str, after: str) -> None:
    """One start and one end in a block become a `with` that keeps comments and formatting, and has no finding."""
    source = HEAD + textwrap.dedent(before)
    assert mended(source) == HEAD + textwrap.dedent(after)
    assert check(mended(source).encode(), "a.py") == []
    assert mended(mended(source)) == mended(source)


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_what_it_refuses(code: str) -> None:
    """Code whose meaning could change is left as it is, and its findings say that they can't be fixed."""
    source = HEAD + textwrap.dedent(code)
    assert mended(source) == source
    assert not any(finding.fixable for finding in check(source.encode(), "a.py"))


def rows(source: str, call: str, fails: bool) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a call, and its spans as they would be sent."""

    def work(*given: Any) -> str:
        if fails:
            raise LookupError(given)
        return f"worked on {given}"

    with _internal_with_memory_background_logger() as memory:
        braintrust.init_logger(project="p", project_id="id", api_key=braintrust.logger.TEST_API_KEY)
        names: dict[str, Any] = {"work": work}
        result: Any = None
        try:
            exec(compile(source, "a.py", "exec"), names)
            result = eval(call, names) if call else None
        except LookupError as error:
            result = repr(error)
        found = memory.pop()
    ids = {row["span_id"]: row["span_attributes"]["name"] for row in found}
    return result, [
        {
            "name": row["span_attributes"]["name"], "parents": [ids[one] for one in row["span_parents"] or ()],
            "ended": "end" in row["metrics"], "input": row.get("input"), "output": row.get("output"),
            "error": "error" in row,
        }
        for row in found
    ]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("one block", "f('q')"), ("comments and formatting", "f('q')"), ("jumps", "f([0, 2])"),
        ("parent and child", ""), ("not the current span", "f()"),
    ],
)
def test_it_does_the_same(name: str, call: str) -> None:
    """The mended code returns the same and sends the same spans; after an exception their ends are there, too."""
    before, after = (HEAD + textwrap.dedent(text) for text in MENDED[name])
    expected = rows(before, call, fails=False)
    assert expected[1] != []
    assert rows(after, call, fails=False) == expected
    result, spans = rows(after, call, fails=True)
    assert result == rows(before, call, fails=True)[0]
    assert not all(span["ended"] for span in rows(before, call, fails=True)[1])
    assert all(span["ended"] for span in spans)


def test_spellings() -> None:
    """Line ends, the encoding and a missing last line end are kept."""
    code = HEAD + "def f():\n    span = start_span('\xe9')\n    work()\n    span.end()\n    return 1"
    cookie = f"# coding: latin-1\n{code}".encode("latin-1")
    assert fixed(cookie, "a.py", set(RULES))[0] == f"# coding: latin-1\n{mended(code)}".encode("latin-1")
    assert "with start_span('\xe9') as span:\n        work()\n    return 1" in mended(code)
    windows = fixed(code.replace("\n", "\r\n").encode(), "a.py", set(RULES))[0]
    assert windows == mended(code).replace("\n", "\r\n").encode()
    marked = b"\xef\xbb\xbf" + code.encode()
    assert fixed(marked, "a.py", set(RULES))[0] in (marked, b"\xef\xbb\xbf" + mended(code).encode())


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--fix`` writes files in place with their mode, follows links, and reports what is left."""
    before, after = (HEAD + textwrap.dedent(text) for text in MENDED["one block"])
    file, link, other = tmp_path / "a.py", tmp_path / "link.py", tmp_path / "other.py"
    file.write_text(before)
    file.chmod(0o640)
    link.symlink_to(file)
    other.write_text(HEAD + textwrap.dedent(REFUSED["never ended"]))
    assert main(["lint", "--fix", str(tmp_path), "--select", "TG002"]) == 0
    assert file.read_text() == before
    assert main(["lint", "--fix", str(link)]) == 0
    assert "Fixed 1 finding." in capsys.readouterr().out
    assert (file.read_text(), stat.S_IMODE(os.stat(file).st_mode), link.is_symlink()) == (after, 0o640, True)
    assert main(["lint", "--fix", str(tmp_path)]) == 1
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.py", "link.py", "other.py"]


def test_stdin(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--fix -`` the text goes to standard output, mended, and the findings go to standard error."""
    before, after = (HEAD + textwrap.dedent(text) for text in MENDED["one block"])
    left = textwrap.dedent(REFUSED["never ended"]).replace("def f", "def g")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((before + left).encode())))
    assert main(["lint", "--fix", "-"]) == 1
    printed = capsysbinary.readouterr()
    assert printed.out.decode() == after + left
    assert b"TG001" in printed.err
