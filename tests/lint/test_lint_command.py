"""``trace-guard lint``: what it reads, how it prints, and its exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trace_guard.cli import main
from trace_guard.lint.check import Unreadable, check
from trace_guard.lint.rules import RULES

REPOSITORY = Path(__file__).parents[2]
GOOD = "import braintrust\nwith braintrust.start_span('a'):\n    pass\n"
BAD = "import braintrust\ndef f():\n    span = braintrust.start_span('a')\n    work()\n    span.end()\n"
NEVER = "import braintrust\nspan = braintrust.start_span('a')\n"


def lint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["lint", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def findings(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[tuple[str, int, int, str]]:
    _, out, _ = lint(capsys, *arguments, "--format", "json")
    return [(one["file"], one["line"], one["column"], one["code"]) for one in json.loads(out)["findings"]]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for place in ("app", "app/inner", ".venv/lib", "node_modules/x", "build", ".git"):
        Path(place).mkdir(parents=True)
        Path(place, "bad.py").write_text(BAD)
    Path("app/good.py").write_text(GOOD)
    Path("app/notes.txt").write_text(BAD)
    Path("app/inner/loop").symlink_to(tmp_path / "app", target_is_directory=True)
    return tmp_path


def test_text(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text says file, line, column, code, why and the fix."""
    code, out, err = lint(capsys, "app")
    assert (code, err) == (1, "")
    first, why, fix, *_, last = out.splitlines()
    assert first == f"app{os.sep}bad.py:3:12: TG001 an exception on line 4 skips `span.end()` on line 5"
    assert why == f"    why: {RULES['TG001'].why}"
    assert fix.startswith(f"    fix: {RULES['TG001'].fix}")
    assert last == "2 findings in 3 files."


def test_exit_codes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 0 without findings, 1 with findings, and 2 for wrong use or a file that can't be read."""
    Path("app/good2.py").write_text(GOOD)
    assert lint(capsys, "app/good.py", "app/good2.py")[0] == 0
    assert lint(capsys, "app/good.py", "app/bad.py")[0] == 1
    assert lint(capsys, "app/none.py") == (2, "", "trace-guard: app/none.py does not exist\n")
    code, _, err = lint(capsys, "app", "--select", "TG999")
    assert (code, "TG999" in err, "TG001" in err) == (2, True, True)
    for wrong in ([], ["app", "--format", "xml"]):
        with pytest.raises(SystemExit) as ended:
            main(["lint", *wrong])
        assert ended.value.code == 2


def test_a_file_that_cannot_be_parsed(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with a syntax error is named with its line, and the other files are still checked."""
    Path("app/broken.py").write_text("import braintrust\ndef f(:\n")
    code, out, _ = lint(capsys, "app")
    assert code == 2
    assert f"app{os.sep}broken.py: not checked: line 2: invalid syntax" in out.splitlines()
    assert "2 findings in 4 files." in out
    _, out, _ = lint(capsys, "app", "--format", "json")
    assert [one["file"] for one in json.loads(out)["errors"]] == [f"app{os.sep}broken.py"]


def test_which_files(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directories are searched for Python files, each once, without hidden ones, packages, builds and links."""
    bad, inner = f"app{os.sep}bad.py", f"app{os.sep}inner{os.sep}bad.py"
    assert [one[0] for one in findings(capsys, ".")] == [bad, inner]
    assert [one[0] for one in findings(capsys, "app/bad.py", "app", "app/inner")] == [bad, inner]
    # What is named is read, wherever it is.
    assert len(findings(capsys, ".venv/lib/bad.py", "app/notes.txt")) == 2


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` reads standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert findings(capsys, "-") == [("-", 3, 12, "TG001")]


def test_rules_are_chosen(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--select`` and ``--ignore`` take codes in any case, repeated or with commas."""
    assert lint(capsys, "app", "--ignore", "tg001")[0] == 0
    assert lint(capsys, "app", "--select", "TG002,TG003", "--select", "TG004")[0] == 0
    assert lint(capsys, "app", "--select", "TG001,TG002", "--ignore", "TG002")[0] == 1


def test_json(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has every field of a finding."""
    _, out, _ = lint(capsys, "app/bad.py", "--json")
    rule = RULES["TG001"]
    (one,) = json.loads(out)["findings"]
    assert one.pop("fixable") in (True, False)
    assert one == {
        "file": f"app{os.sep}bad.py", "line": 3, "column": 12, "end_line": 3, "end_column": 38, "code": "TG001",
        "message": "an exception on line 4 skips `span.end()` on line 5", "name": rule.name, "why": rule.why,
        "fix": rule.fix,
    }


def test_github(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding is an annotation, in which a file's name can't end a field or begin another command."""
    file = tmp_path / "a,b:100%\n::stop.py"
    file.write_text(BAD)
    _, out, _ = lint(capsys, file, "--format", "github")
    (line,) = out.splitlines()
    fields, _, text = line.removeprefix("::error ").partition("::")
    assert fields.split(",")[0] == f"file={tmp_path}/a%2Cb%3A100%25%0A%3A%3Astop.py"
    assert fields.split(",")[1:] == ["line=3", "endLine=3", "col=12", "endColumn=38", "title=TG001 span-without-with"]
    assert text.startswith("an exception on line 4 skips")


def test_sarif(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log has what SARIF 2.1.0 requires, and each result leads to its rule and its place."""
    Path("app/a b.py").write_text(NEVER)
    Path("app/broken.py").write_text("import braintrust\ndef f(:\n")
    code, out, _ = lint(capsys, "app", tree / "app" / "inner" / "bad.py", "--format", "sarif")
    log = json.loads(out)
    assert (code, log["version"]) == (2, "2.1.0")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert " " not in place["artifactLocation"]["uri"]
        assert all(isinstance(value, int) and value >= 1 for value in place["region"].values())
    uris = [uri_of(result) for result in run["results"]]
    assert uris == ["app/a%20b.py", "app/bad.py", "app/inner/bad.py"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [uri_of(one) for one in invocation["toolExecutionNotifications"]] == ["app/broken.py"]


def uri_of(result: dict[str, Any]) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_without_libcst(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, the command says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = lint(capsys, "app")
    assert (code, out) == (2, "")
    assert 'pip install "trace-guard[lint]"' in err


def test_our_own_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of this project and its packages have no findings."""
    paths = [REPOSITORY / name for name in ("examples", "trace_guard", "adapters", "benchmarks")]
    assert lint(capsys, *paths)[:2] == (0, f"0 findings in {len(list_of(paths))} files.\n")


def list_of(paths: list[Path]) -> list[Path]:
    return [file for path in paths for file in path.rglob("*.py") if "node_modules" not in file.parts]


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        ("# coding: latin-1\nimport braintrust\nx = 'é'; span = braintrust.start_span('a')\n".encode("latin-1"), 3, 17),
        ("import braintrust\nx = '\U0001f600'; span = braintrust.start_span('é')\n".encode(), 2, 17),
        (b"\xef\xbb\xbf" + NEVER.encode(), 2, 8),
        (NEVER.replace("\n", "\r\n").encode(), 2, 8),
        (NEVER.replace("\n", "\r").encode(), 2, 8),
        (b"import braintrust\nif 1:\n\tif 2:\n\t\tspan = braintrust.start_span('a')\n", 4, 10),
        (b"import braintrust\n\x0c\nx = '''\n\x0b\x1c'''\nspan = braintrust.start_span('a')", 5, 8),
        (b"import braintrust; x = '\\d'; span = braintrust.start_span('a')", 1, 37),
    ],
    ids=["cookie", "wide characters", "BOM", "CRLF", "CR", "tabs", "form feed", "invalid escape"],
)
def test_every_spelling_of_a_file(data: bytes, line: int, column: int) -> None:
    """Encodings, byte order marks, line ends and tabs are read as Python reads them."""
    assert [(one.line, one.column, one.code) for one in check(data, "a.py")] == [(line, column, "TG001")]


@pytest.mark.parametrize(
    "data",
    [
        b"# braintrust\n" + b"x = " + b"(" * 5000 + b")" * 5000,
        b"# braintrust\nx = a" + b".b" * 100_000,
        b"# braintrust\nx = " + b"not " * 50_000 + b"1",
        b"# braintrust\nif a:\n    pass\n" + b"elif b:\n    pass\n" * 20_000,
        b"# braintrust\n" + b"".join(b" " * depth + b"if a:\n" for depth in range(300)),
        b"# braintrust\x00",
        b"# braintrust\nx = '\xff'",
        b"# coding: none-such\n# braintrust",
        b"# coding: utf-16\n# braintrust",
    ],
    ids=["brackets", "attributes", "operators", "elif", "indents", "null", "not UTF-8", "unknown encoding", "UTF-16"],
)
def test_hostile_files(data: bytes) -> None:
    """A file that can't be parsed, or is nested too deeply, ends neither the process nor the run."""
    with contextlib.suppress(Unreadable):
        assert check(data, "a.py") == []


def test_empty_and_large_files() -> None:
    """A file without bytes has no findings. A large one takes seconds, and none if it has nothing of the SDK."""
    assert check(b"", "a.py") == []
    other = b"def f():\n    return span.start()\n" * 100_000
    begin = time.process_time()
    assert check(other, "a.py") == []
    quick = time.process_time() - begin
    begin = time.process_time()
    large = BAD + "\n".join(f"def f{number}():\n    return work(1)" for number in range(3000))
    assert len(check(large.encode(), "a.py")) == 1
    assert quick < time.process_time() - begin
