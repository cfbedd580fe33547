"""Spans that their code left open say where they were started."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from support import REPOSITORY, Program, environment, journals, settings_for, until

from trace_guard import Guard, recover, step
from trace_guard.backends.memory import MemoryBackend
from trace_guard.cli import main
from trace_guard.testing import BraintrustServer, fail_on_open_spans

pytest_plugins = ["pytester"]

HERE = Path(__file__).name
PLACED = rf"{HERE}:\d+ in {{}}"
PLACE = rf"{HERE}:\d+ was left open"


def forget(name: str = "rerank") -> int:
    """Leave a span open, and return the line that has started it."""
    braintrust.start_span(name)
    return inspect.getsourcelines(forget)[1] + 2


def about(server: BraintrustServer, name: str) -> dict[str, Any]:
    (row,) = [row for row in server.span_rows() if row["span_attributes"]["name"] == name]
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


def test_a_forgotten_span_says_where_it_was_started(
    server: BraintrustServer, make_guard: MakeGuard, caplog: pytest.LogCaptureFixture
) -> None:
    """A span left open has the place in its metadata, and one warning for each place names it."""
    guard = make_guard()
    for _ in range(3):
        with guard.invocation("root"):
            line = forget()
    places = [row["metadata"]["trace_guard"].get("opened_at") for row in server.span_rows() if row["span_parents"]]
    assert places == [f"{HERE}:{line} in forget"] * 3
    warning = (
        f"trace-guard: span 'rerank' started at {HERE}:{line} was left open; use `with` or end it in `finally`"
    )
    assert [record.getMessage() for record in caplog.records if "left open" in record.getMessage()] == [warning]


def test_a_step_names_the_code_that_began_it(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A span that trace-guard's own helper starts has the place of the code that has called the helper."""
    with make_guard().invocation("root"):
        step("rerank").__enter__()
    assert re.fullmatch(PLACED.format("test_a_step_names_the_code_that_began_it"), about(server, "rerank")["opened_at"])


def test_a_timeout_names_the_place(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A span that the watchdog closes has the place, and loses it if the code returns in time after all."""
    with make_guard(reserve=5.0).invocation("root", deadline=2.0), braintrust.start_span("slow"):
        until(lambda: server.span_rows() and not server.open_spans(), what="the forced close")
        assert about(server, "slow")["opened_at"].startswith(HERE)
    until(lambda: about(server, "slow").get("opened_at") is None, what="the correction")


def test_a_killed_process_leaves_the_places(server: BraintrustServer, directory: Path) -> None:
    """Recovery names the place, also if the segment with the start of the span was removed."""
    with Program("""
    import braintrust
    from trace_guard import Deadline, Guard
    guard = Guard(max_journal_bytes=1 << 17)
    guard.invocation("killed").open()
    braintrust.start_span("early")
    for n in range(8):
        with braintrust.start_span("filler") as filler:
            filler.log(input="f" * 2000)
    braintrust.flush()
    guard.pipeline.flush(Deadline.after(10))
    say("delivered")
    listen()
    """, environment(server, directory)) as program:
        program.expects("delivered")
        (path,) = journals(directory)
        assert not (path / "00000001.seg").exists()
        program.kill()
    recover(settings_for(server, directory))
    assert about(server, "early")["opened_at"].startswith("<string>:")


def test_show_prints_the_place(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``trace-guard show`` names the place of a span that was left open."""
    guard = Guard(backend="local", dir=directory)
    with guard.invocation("root") as invocation:
        line = forget()
    guard.close()
    assert main(["show", invocation.span.root_span_id, "--dir", str(directory)]) == 0
    assert f"{HERE}:{line} in forget" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["left open", "outside", "closed with the guard"])
def test_fail_on_open_spans_finds_them(way: str) -> None:
    """The block fails and names the span, whether an invocation or the process left it open."""
    guard = Guard(project="tests", backend=MemoryBackend()).start()
    braintrust.init_logger(project="tests")

    def leave_open() -> None:
        with fail_on_open_spans():
            if way == "left open":
                guard.wrap(forget)()
            else:
                forget()
            if way == "closed with the guard":
                guard.close()

    with pytest.raises(AssertionError, match=f"'rerank' started at {PLACE}"):
        leave_open()
    guard.close()


def test_fail_on_open_spans_passes_on_errors() -> None:
    """Code that ends its spans passes, and its exceptions are raised as they are."""
    guard = Guard(project="tests", backend=MemoryBackend()).start()
    forgotten = braintrust.start_span("before")
    with fail_on_open_spans(), guard.invocation("root"), braintrust.start_span("child"):
        pass

    def fails() -> None:
        with fail_on_open_spans(), guard.invocation("root"):
            braintrust.start_span("left")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    forgotten.end()
    guard.close()


def test_the_fixture_and_the_marker(pytester: pytest.Pytester) -> None:
    """With the plugin, tests with the fixture or the marker fail, and others pass."""
    project = (REPOSITORY / "pyproject.toml").read_text()
    (name,) = re.findall(r'\[project\.entry-points\.pytest11\]\n"(.+)" = "\1"\n', project)
    pytester.makeconftest(f"pytest_plugins = [{name!r}]")  # as if it had just been installed
    pytester.makepyfile("""
        import braintrust, pytest
        from trace_guard import Guard
        from trace_guard.backends.memory import MemoryBackend

        def work():
            guard = Guard(project="tests", backend=MemoryBackend())
            guard.wrap(lambda: braintrust.start_span("left") and None)()
            guard.close()

        def test_fixture(fail_on_open_spans): work()

        @pytest.mark.fail_on_open_spans
        def test_marker(): work()

        def test_other(): work()
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
    result.assert_outcomes(failed=2, passed=1)


def test_a_forgotten_span_of_another_project_is_linked(tmp_path: Path) -> None:
    """A span in another project's logger is linked with its invocation, also if it logs nothing but its start."""
    backend = MemoryBackend()
    guard = Guard(backend=backend, dir=tmp_path / "trace-guard", project="ours")
    with guard.invocation("root") as invocation:
        other = braintrust.init_logger(project="other", set_current=False)
        other.start_span("first").end()
        braintrust.flush()  # so that the row of the next one takes the short way
        other.start_span("elsewhere")
    guard.close()
    (span,) = [row for row in backend.rows() if row["span_attributes"]["name"] == "elsewhere"]
    assert span["metadata"]["trace_guard"]["invocation"]["id"] == invocation.span.id
