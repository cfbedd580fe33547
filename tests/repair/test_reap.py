"""``trace-guard reap`` as a user runs it, against a simulated Braintrust."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from stuck import HOUR, PROJECT, ended, reap, reaped, rows_of, send, span

from trace_guard.testing import BraintrustServer, Fault
from trace_guard.testing.faults import Exchange
from trace_guard.testing.http_wire import Response


def found(server: BraintrustServer, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(reap(server, "--json", *options).stdout)["traces"])


def test_a_dry_run_explains_and_changes_nothing(server: BraintrustServer) -> None:
    """Without --close the table shows each stuck trace, its cause and where its spans were started; nothing changes."""
    send(server, span("agent"), span("llm", "agent", ago=2 * HOUR, took=5))
    before = server.rows()
    text = " ".join(reap(server).stdout.split())
    assert re.search(r"r-t agent support-bot 3 h 0 min (?:1 h 59 min|2 h 0 min) 1 of 2 parent open, all children "
                     r"closed agent at code/app.py:5 in do_agent", text)
    assert "Nothing was changed. --close closes them" in text
    assert server.rows() == before
    (trace,) = found(server)
    assert (trace["cause"], trace["open_spans"][0]["place"]) == ("children_closed", "code/app.py:5 in do_agent")


def test_a_closed_span_ends_at_the_last_activity_below_it(server: BraintrustServer) -> None:
    """Spans are closed innermost first; each ends at the last activity in its own subtree, and says who closed it."""
    send(
        server, span("agent"), span("plan", "agent", ago=2.9 * HOUR), span("search", "plan", ago=2.8 * HOUR, took=60),
        span("answer", "agent", ago=2.5 * HOUR), span("done", "agent", ago=2.6 * HOUR, took=30),
    )
    sent = rows_of(server)
    text = reap(server, "--close", "--error", "the host has gone").stdout
    assert "1 trace closed, with 3 spans." in text
    last = sent["search"]["metrics"]["end"]
    start = sent["answer"]["metrics"]["start"]
    assert ended(server) == {
        "agent": start, "plan": last, "search": last, "answer": start, "done": sent["done"]["metrics"]["end"],
    }
    rows = rows_of(server)
    assert rows["answer"]["metadata"]["trace_guard"] == {
        "outcome": "abandoned", "closed_by": "reaper", "reason": "killed_in_call", "reaped_end": start,
        "reaped_error": "the host has gone",
    }
    assert {name: row.get("error") for name, row in rows.items()} == {
        "agent": "the host has gone", "plan": "the host has gone", "answer": "the host has gone", "search": None,
        "done": None,
    }
    order = [row["span_attributes"]["name"] if "span_attributes" in row else row["id"].partition("-")[2]
             for row in server.requests_to("/logs3")[-1].rows]
    assert order == ["answer", "plan", "agent"]
    again = reap(server, "--close").stdout
    assert ("No stuck trace" in again, "0 traces closed" in again) == (True, True)
    assert len(server.requests_to("/logs3")) == 2


@pytest.mark.parametrize("sign", ["started", "ended", "heartbeat", "logged"])
def test_a_live_trace_is_left_alone(server: BraintrustServer, sign: str) -> None:
    """Activity anywhere in a trace keeps all of it open: a span that began or ended, a heartbeat, something logged."""
    send(server, span("job"), span("step", "job", ago=2 * HOUR), span("done", "job", took=1))
    now = time.time()
    if sign == "started":
        send(server, span("new", "step", ago=60))
    elif sign == "ended":
        send(server, {**span("done"), "_is_merge": True, "metrics": {"end": now - 60}})
    elif sign == "heartbeat":
        send(server, {"id": "t-job", "span_id": "s-t-job", "project_id": "P", "log_id": "g", "_is_merge": True,
                      "metadata": {"trace_guard": {"heartbeat": now - 60}}})
    else:
        send(server, {"id": "t-step", "span_id": "s-t-step", "project_id": "P", "log_id": "g", "_is_merge": True,
                      "metadata": {"note": 1}})
    assert found(server) == []
    assert len(found(server, "--older-than", "0.01s")) == 1


def test_spans_that_are_open_on_purpose_stay_open(server: BraintrustServer) -> None:
    """A durable span stays open with what is above it, one kept open with what is below it too, until its time."""
    durable = {"trace_guard": {"durable": True}}
    kept = {"trace_guard": {"keep_open": {"reason": "approval", "until": None}}}
    over = {"trace_guard": {"keep_open": {"reason": "approval", "until": time.time() - 60}}}
    send(
        server,
        span("workflow", trace="a", metadata=durable), span("step", "workflow", trace="a"),
        span("root", trace="b"), span("approval", "root", trace="b", metadata=kept),
        span("wait", "approval", trace="b"), span("other", "root", trace="b"),
        span("approval", trace="c", metadata=over),
    )
    reap(server, "--close")
    still_open = {trace: {name for name, end in ended(server, trace).items() if end is None} for trace in "abc"}
    assert still_open == {"a": {"workflow"}, "b": {"root", "approval", "wait"}, "c": set()}


def test_a_real_end_that_comes_later_wins(server: BraintrustServer) -> None:
    """If a span's own end arrives after the reaper has closed it, the next run removes the marks; the end stays."""
    send(server, span("agent"), span("slow", "agent"))
    reap(server, "--close", "--error", "gone")
    end = time.time() - 10
    send(server, {**span("slow", "agent"), "_is_merge": True, "metrics": {"end": end}, "output": "late"})
    assert "1 span had been closed earlier and ended later" in reap(server, "--close").stdout
    slow, agent = rows_of(server)["slow"], rows_of(server)["agent"]
    assert (slow["metrics"]["end"], slow["output"], reaped(slow), slow.get("error")) == (end, "late", None, None)
    assert (slow.get("metadata"), reaped(agent)) == (None, "killed_in_call")
    assert "ended later" not in reap(server, "--close").stdout


def test_a_service_that_does_not_compare_fields_is_searched_nonetheless(server: BraintrustServer) -> None:
    """Where a query must not compare two fields, the reaper closes stuck traces and clears marks all the same."""
    refusal = Fault.status(400)

    def refuse(exchange: Exchange) -> Response | None:
        compares = b"reaped_end" in exchange.request.body
        return refusal.injure(exchange) if compares else exchange.answer()

    server.fail("/btql", Fault("refuse comparisons", refuse))
    send(server, span("agent"), span("slow", "agent"))
    assert "1 trace closed, with 2 spans." in reap(server, "--close").stdout
    end = time.time() - 10
    send(server, {**span("slow", "agent"), "_is_merge": True, "metrics": {"end": end}})
    assert "1 span had been closed earlier and ended later" in reap(server, "--close").stdout
    rows = rows_of(server)
    assert (rows["slow"]["metrics"]["end"], reaped(rows["slow"])) == (end, None)
    assert reaped(rows["agent"]) == "killed_in_call"
    assert "ended later" not in reap(server, "--close").stdout


def test_many_traces_are_found_once_whatever_the_service_answers(server: BraintrustServer) -> None:
    """Pages, redirects, 429, 504, 500 and a passing 401 neither lose a trace nor find it twice."""
    with BraintrustServer(api_keys=["key"], max_query_rows=700, max_answer_bytes=100_000) as server:
        server.add_project(PROJECT, "P")
        rows = [
            row for number in range(1200)
            for row in (span("root", trace=f"{number}", ago=HOUR * (2 + number / 4)),
                        span("call", "root", trace=f"{number}", ago=HOUR * (2 + number / 4) - 60))
        ]
        send(server, *rows)
        for fault in (Fault.status(429, retry_after=0), Fault.status(401), Fault.status(503), Fault.status(504)):
            server.fail("/btql", fault, times=2)
        traces = found(server, "--older-than", "1h")
        assert sorted(trace["root_span_id"] for trace in traces) == sorted(f"r-{number}" for number in range(1200))
        assert any(request.path.startswith("/overflow/") for request in server.requests)
        reap(server, "--close", "--limit", "5")
        assert len(server.open_spans()) == 2 * 1195
        reap(server, "--close", "--parallel", "4")
        assert server.open_spans() == []
        closing = [row["id"] for request in server.requests_to("/logs3")[1:] for row in request.rows]
        assert len(closing) == len(set(closing)) == 2400


def test_shards_split_the_work(server: BraintrustServer) -> None:
    """Each trace is in one share of those that --shard makes."""
    send(server, *(
        row for day in range(12) for row in (
            span("root", trace=f"{day}", ago=86400 * day + 7200), span("leaf", "root", trace=f"{day}", ago=5000),
        )
    ))
    shares = [{trace["root_span_id"] for trace in found(server, "--shard", f"{index}/3")} for index in range(3)]
    assert sorted(trace for share in shares for trace in share) == sorted(f"r-{day}" for day in range(12))
    assert sum(bool(share) for share in shares) > 1


def test_a_search_is_narrowed(server: BraintrustServer) -> None:
    """--filter, --since, --limit and --older-than leave out what they say; --experiment and --all-projects add."""
    server.add_project("other", "Q")
    experiment = {"project_id": None, "log_id": None, "experiment_id": "E"}
    send(
        server, span("a", trace="1", metadata={"team": "x"}), span("b", trace="2", ago=86400 * 3),
        span("c", trace="3", project_id="Q"), {**span("d", trace="4"), **experiment},
    )
    def names(*options: str, project: bool = True) -> set[str]:
        done = reap(server, "--json", *options, project=project)
        return {trace["name"] for trace in json.loads(done.stdout)["traces"]}

    assert names() == {"a", "b"}
    assert names("--filter", "metadata.team = 'x'") == {"a"}
    assert names("--since", "1d") == {"a"}
    assert names("--older-than", "1d") == {"b"}
    assert len(names("--limit", "1")) == 1
    assert names("--all-projects", project=False) == {"a", "b", "c"}
    assert names("--project", "Q", "--experiment", "E", project=False) == {"c", "d"}
    reap(server, "--close", "--experiment", "E", project=False)
    assert ended(server, "4")["d"] is not None


def test_rows_are_written_for_others_to_push(server: BraintrustServer, tmp_path: Path) -> None:
    """--output writes the rows that --close would send, and changes nothing; pushed, they close the trace."""
    send(server, span("agent"), span("llm", "agent"))
    output = tmp_path / "rows.jsonl"
    text = reap(server, "--output", str(output)).stdout
    assert f"bt sync push project_logs:{PROJECT} --in {output}" in text
    assert len(server.open_spans()) == 2
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["id"], row["_is_merge"]) for row in rows] == [("t-llm", True), ("t-agent", True)]
    send(server, *rows)
    assert server.open_spans() == []


def test_the_audit_has_a_line_for_each_closed_trace(server: BraintrustServer, tmp_path: Path) -> None:
    """--audit gets one line for each closed trace, also for those of a run that was killed before it could say so."""
    audit = tmp_path / "audit.jsonl"
    send(server, span("a", trace="1"))
    reap(server, "--close", "--audit", str(audit))
    send(server, span("b", trace="2"))
    reap(server, "--close", "--audit", str(audit))
    lines = audit.read_text().splitlines()
    assert [json.loads(line)["root_span_id"] for line in lines] == ["r-1", "r-2"]
    # The run was killed after it had closed the second trace, in the middle of its line.
    (tmp_path / "audit.jsonl.pending").write_text(f"{lines[1]}\n")
    audit.write_text(f"{lines[0]}\n{lines[1][:40]}")
    reap(server, "--close", "--audit", str(audit))
    assert audit.read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("variables", "options", "code", "said"),
    [
        ({"BRAINTRUST_API_KEY": "wrong"}, (), 1, "check BRAINTRUST_API_KEY"),
        ({"BRAINTRUST_API_KEY": ""}, (), 2, "set BRAINTRUST_API_KEY to search Braintrust, or use --backend local"),
        ({"BRAINTRUST_API_URL": "http://127.0.0.1:1"}, (), 1, "127.0.0.1:1 did not answer"),
        ({}, ("--project", "nothing"), 2, "there is no project 'nothing'"),
        ({}, ("--filter", "what = = 1"), 1, "not understood"),
        ({}, ("--shard", "3/3"), 2, "'3/3' is not a shard"),
        ({}, ("--older-than", "soon"), 2, "'soon' is not a duration"),
        ({}, ("--older-than", "90d"), 2, "below since"),
        ({}, ("--close", "--output", "rows.jsonl"), 2, "choose one"),
        ({}, ("--close", "--audit", "/proc/audit"), 2, "can't be written"),
    ],
)
def test_errors_say_what_to_do(
    server: BraintrustServer, variables: dict[str, str], options: tuple[str, ...], code: int, said: str
) -> None:
    """A wrong key, no key, no network and wrong options are one line that says what to do."""
    done = reap(server, *options, code=code, **variables)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_project_has_no_stuck_trace(server: BraintrustServer) -> None:
    """An empty project, and no project at all, are said clearly."""
    assert "No stuck trace: none is open in which nothing has happened for 1 h 0 min." in reap(server).stdout
    assert "name what to search: --project NAME" in reap(server, project=False, code=2).stderr
    assert "No stuck trace" in reap(server, project=False, TRACE_GUARD_PROJECT=PROJECT).stdout
