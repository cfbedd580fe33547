"""Requests to the local page, made without a browser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
from page_rows import ServePage, send, span, three_traces

from trace_guard.backends.local import LocalStore

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\ud800\u202eevil"


def test_another_host_is_refused(serve: ServePage, store: LocalStore) -> None:
    """A request whose Host is not the page's own address is refused, so that no other site reads traces by a name that
    resolves to this machine."""
    address = serve()
    port = address.rpartition(":")[2]
    for host in ("example.com", "127.0.0.1", f"127.0.0.1.example.com:{port}", "localhost:1", ""):
        answer = httpx.get(address, headers={"Host": host})
        assert (answer.status_code, "trace" in answer.text) == (403, False), host


def test_names_of_this_machine_are_accepted(serve: ServePage, store: LocalStore) -> None:
    """The page can be opened by each name of the loopback address."""
    address = serve()
    port = address.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert httpx.get(address, headers={"Host": host}).status_code == 200


def test_another_origin_is_refused(serve: ServePage, store: LocalStore) -> None:
    """A request that another site's script or form makes is refused, whatever it asks for."""
    address = serve()
    for origin in ("https://example.com", "null", "http://127.0.0.1:1", address.replace("http", "https")):
        assert httpx.get(f"{address}/events", headers={"Origin": origin}).status_code == 403
        assert httpx.post(f"{address}/health/close", headers={"Origin": origin}).status_code == 403
    assert httpx.post(f"{address}/health/close", data={"trace": "x"}).status_code == 403


def test_a_close_needs_the_pages_token(serve: ServePage, store: LocalStore) -> None:
    """A request to close a trace is refused without the token that the page holds."""
    address = serve()
    for token in ("", "wrong", "ü"):
        answer = httpx.post(
            f"{address}/health/close", data={"trace": "a" * 32, "token": token}, headers={"Origin": address},
        )
        assert answer.status_code == 403
        assert "out of date" in answer.text


def test_only_the_pages_own_scripts_run(serve: ServePage, store: LocalStore) -> None:
    """Every answer forbids scripts and requests but the page's own, and no page has an inline script or style."""
    three_traces(store)
    address = serve()
    for path in ("/", f"/trace?root={'a' * 32}", "/health", "/static/page.js", "/missing", f"/trace?root={'e' * 32}"):
        answer = httpx.get(address + path)
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert "style=" not in answer.text
            assert answer.text.count("<script") == 1


def test_hostile_text_is_shown_as_text(serve: ServePage, store: LocalStore) -> None:
    """Markup, control characters and broken Unicode in every field are shown, and change nothing on any page."""
    root = f"{HOSTILE}/../?"
    send(store, span(
        HOSTILE, root=root, start=5, end=1, input=HOSTILE, output={HOSTILE: HOSTILE}, error=HOSTILE, tags=[HOSTILE],
        project_id=HOSTILE, metadata={HOSTILE: 1, "trace_guard": {"outcome": HOSTILE, "closed_by": HOSTILE}},
        span_attributes={"name": HOSTILE, "type": HOSTILE}, context={"caller_filename": HOSTILE},
    ))
    address = serve()
    stored = quote(root.encode("utf-8", "backslashreplace"), safe="")
    pages = (
        "/", f"/?q={quote('<script>')}", f"/trace?root={stored}", f"/trace?root={stored}&span={stored}",
        f"/trace/span?root={stored}&span={stored}", "/health",
    )
    for path in pages:
        answer = httpx.get(address + path)
        assert answer.status_code == 200, (path, answer.text)
        assert "<script>alert" not in answer.text
        assert not {"\x00", "\x1b", "\u202e"} & set(answer.text)
    assert "&lt;script&gt;alert(1)" in httpx.get(address).text


def test_large_payloads_are_cut_and_can_be_had_whole(serve: ServePage, store: LocalStore) -> None:
    """A text of 5 MB is cut in the page, with a link to all of it, and a name of 10,000 characters is shortened."""
    send(store, span("n" * 10_000, root="a" * 32, start=5, end=1, input="x" * 5_000_000, output="short"))
    address = serve()
    panel = httpx.get(f"{address}/trace?root={'a' * 32}&span={'a' * 32}").text
    assert len(panel) < 200_000
    assert "Show all 5000000 characters" in panel
    whole = httpx.get(f"{address}/trace/field?root={'a' * 32}&span={'a' * 32}&name=input")
    assert (whole.text, whole.headers["content-type"]) == ("x" * 5_000_000, "text/plain; charset=utf-8")
    assert len(httpx.get(address).text) < 20_000


def test_a_trace_as_json(serve: ServePage, store: LocalStore) -> None:
    """The rows of a trace can be had as JSON."""
    three_traces(store)
    answer = httpx.get(f"{serve()}/trace/rows.json?root={'a' * 32}").json()
    assert [row["span_attributes"]["name"] for row in answer["rows"]] == ["summarise", "search"]


FILTERS: list[tuple[str, list[str]]] = [
    ("", ["running", "slow", "answer", "summarise"]),
    ("state=open", ["running"]),
    ("state=error", ["slow", "answer"]),
    ("state=closed", ["slow"]),
    ("project=sales-bot", ["answer"]),
    ("name=SUMM", ["summarise"]),
    ("name=%25", []),
    ("q=zebra", ["summarise"]),
    ("q=no+answer", ["answer"]),
    ("q=because&state=error", []),
    ("since=1h", ["running", "slow", "answer", "summarise"]),
    ("state=bogus&page=nonsense", ["running", "slow", "answer", "summarise"]),
    ("page=2", []),
]


def test_filters(serve: ServePage, store: LocalStore) -> None:
    """Each filter finds its traces, those in progress first, then the newest."""
    three_traces(store)
    address = serve()
    for query, names in FILTERS:
        page = httpx.get(f"{address}/?{query}").text
        places = {name: page.find(f">{name}</a>") for name in ("running", "slow", "answer", "summarise")}
        found = sorted((name for name, at in places.items() if at >= 0), key=lambda name: places[name])
        assert found == names, query


def test_a_missing_store(serve: ServePage, directory: Path) -> None:
    """Without a store the page says how to get traces, and the command makes none."""
    assert "There are no traces yet" in httpx.get(serve()).text
    assert not (directory / "traces.db").exists()


def test_a_port_that_is_taken(serve: ServePage, directory: Path) -> None:
    """A port that another program has is a clear error."""
    port = serve().rpartition(":")[2]
    ended = subprocess.run(
        [sys.executable, "-m", "trace_guard", "ui", "--dir", str(directory), "--port", port, "--no-open"],
        capture_output=True, text=True, timeout=60,
    )
    assert ended.returncode == 1
    assert f"port {port} can't be used" in ended.stderr
    assert "--port" in ended.stderr


def test_events_follow_the_store(serve: ServePage, store: LocalStore) -> None:
    """A page that listens is told within a second when its trace changes."""
    three_traces(store)
    address = serve()
    with httpx.stream("GET", f"{address}/events?trace={'d' * 32}", timeout=20) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        before = next(lines)
        send(store, span("reply", root="d" * 32, parent="d" * 32, start=1))
        assert next(lines) != before


def test_pictures(store: LocalStore, directory: Path, tmp_path: Path) -> None:
    """`show --svg` and `--html` write files that refer to nothing else, with hostile names as text."""
    send(store, span(HOSTILE, root="a" * 32, start=5, end=1, input=HOSTILE),
         span("child", root="a" * 32, parent="a" * 32, start=4, end=2))
    svg, html = tmp_path / "trace.svg", tmp_path / "trace.html"
    subprocess.run(
        [sys.executable, "-m", "trace_guard", "show", "aaaa", "--dir", str(directory), "--svg", str(svg),
         "--html", str(html)], check=True, capture_output=True, timeout=60,
    )
    for path in (svg, html):
        text = path.read_text("utf-8")
        assert "<script" not in text
        assert "child" in text
        assert "://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
