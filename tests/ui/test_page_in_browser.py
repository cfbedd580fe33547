"""The local page in a real browser."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_rows import OpenPage, Row, ServePage, send, span, three_traces
from playwright.sync_api import Page, expect
from support import until

from trace_guard.backends.local import LocalStore


def png(width: int) -> bytes:
    """A white picture of one line."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\x00" + b"\xff" * width)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def names(page: Page) -> list[str]:
    return page.locator("table.traces td.name a").all_inner_texts()


def test_list_and_filter(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """A filter changes the list and the address, and the address alone gives the same list."""
    three_traces(store)
    page = visit(serve())
    assert names(page) == ["running", "slow", "answer", "summarise"]
    page.get_by_text("error", exact=True).first.click()
    page.wait_for_url("**/?state=error")
    assert names(page) == ["slow", "answer"]
    page.get_by_label("Project").select_option("sales-bot")
    page.wait_for_url("**/?state=error&project=sales-bot")
    assert names(page) == ["answer"]
    page.reload()
    assert names(page) == ["answer"]


def test_keyboard(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """One can search, choose, open and go back without a mouse."""
    three_traces(store)
    page = visit(serve())
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("zebra")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/\?q=zebra$"))
    page.wait_for_load_state()
    assert names(page) == ["summarise"]
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("q="))
    page.wait_for_load_state()
    for key in "jjjk":
        page.keyboard.press(key)
    expect(page.locator("tr.chosen a")).to_have_text("slow")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="slow")).to_be_visible()
    page.wait_for_load_state()  # from then on the page listens to keys
    page.keyboard.press("j")
    expect(page.locator("#panel h2")).to_have_text("slow")
    page.keyboard.press("Escape")
    expect(page.locator("table.traces")).to_be_visible()


def test_waterfall_and_panel(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """Spans are nested and placed in time, and a click shows what one holds, which the address then names."""
    three_traces(store)
    page = visit(f"{serve()}/trace?root={'a' * 32}")
    parent, child = (page.locator("rect.span").nth(number).bounding_box() for number in (0, 1))
    assert parent is not None
    assert child is not None
    assert parent["x"] < child["x"] < child["x"] + child["width"] < parent["x"] + parent["width"]
    page.get_by_text("search").click()
    expect(page.locator("#panel pre").first).to_have_text("zebra crossing")
    assert f"span={'a' * 32}-search" in page.url
    page.reload()
    expect(page.locator("#panel pre").first).to_have_text("zebra crossing")


def test_forced_closes_and_open_spans_name_their_place(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """A span that was closed for the user says by whom, and an open one says where it was started."""
    three_traces(store)
    address = serve()
    expect(visit(f"{address}/trace?root={'c' * 32}").locator("table .mark")).to_contain_text("closed by watchdog")
    expect(visit(f"{address}/trace?root={'d' * 32}").locator("tbody tr").nth(1)).to_contain_text(
        "started at app.py:42 in think_hard"
    )


def test_a_trace_grows_while_one_looks(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """A span that begins shows on the open page, and so does the end of its trace; the chosen span stays chosen."""
    three_traces(store)
    page = visit(f"{serve()}/trace?root={'d' * 32}&span={'d' * 32}")
    expect(page.locator("h1 + .badge")).to_have_text("in progress")
    send(store, span("reply", root="d" * 32, parent="d" * 32, start=1, end=0))
    expect(page.locator("tbody")).to_contain_text("reply")
    expect(page.locator("tr.chosen")).to_contain_text("running")
    send(store, span("running", root="d" * 32, start=20, end=0, output="done"),
         span("think", root="d" * 32, parent="d" * 32, start=15, end=0))
    expect(page.locator("h1 + .badge")).to_have_text("ok")


def test_the_list_shows_new_traces(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """A trace that begins while one looks at the list appears there, with a running clock."""
    three_traces(store)
    page = visit(serve())
    send(store, span("newcomer", root="e" * 32, start=0))
    expect(page.locator("table.traces tbody tr").first).to_contain_text("newcomer")
    clock = page.locator("table.traces .running").first
    shown = clock.inner_text()
    expect(clock).not_to_have_text(shown)


def test_image_attachments_are_shown(serve: ServePage, visit: OpenPage, store: LocalStore, directory: Path) -> None:
    """An attached picture is drawn in the panel of its span."""
    (directory / "attachments").mkdir(mode=0o700)
    (directory / "attachments" / "key-1.png").write_bytes(png(7))
    (directory / "attachments" / "key-1.png").chmod(0o600)
    attachment = {"type": "braintrust_attachment", "key": "key-1", "filename": "a.png", "content_type": "image/png"}
    send(store, span("look", root="a" * 32, start=5, end=1, input={"picture": [attachment]}))
    page = visit(f"{serve()}/trace?root={'a' * 32}&span={'a' * 32}")
    until(lambda: page.locator("#panel img").evaluate("image => image.naturalWidth") == 7)


def test_it_ends_while_one_looks(visit: OpenPage, serve: ServePage, store: LocalStore) -> None:
    """Ctrl-C ends the command at once and without an error, also with a page open."""
    three_traces(store)
    visit(serve())  # the fixture ends the command before it closes the page


def hostile() -> Row:
    markup = "<img src=x onerror=document.title='run'><script>document.title='run'</script>"
    return span(
        f"{markup}{'n' * 10_000}", root="a" * 32, start=5, end=1, input=markup, output={markup: "\x1b[2J\u202e"},
        error=markup, tags=[markup], metadata={"html": markup}, project_id=markup,
    )


def test_hostile_payloads_stay_text(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """No payload runs as a script, and no page becomes wider than the window."""
    send(store, hostile())
    address = serve()
    for path in ("/", f"/trace?root={'a' * 32}&span={'a' * 32}"):
        for width in (1200, 390):
            page = visit(address + path, viewport={"width": width, "height": 800})
            assert "trace-guard" in page.title()
            assert page.locator("main img, main script").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(serve: ServePage, visit: OpenPage, store: LocalStore, scheme: str) -> None:
    """No page has a serious accessibility fault, in light and in dark colours."""
    three_traces(store)
    address = serve()
    backgrounds = set()
    for path in ("/", f"/trace?root={'c' * 32}&span={'c' * 32}", f"/trace?root={'d' * 32}", "/health"):
        page = visit(address + path, color_scheme=scheme)
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        faults = [
            (fault["id"], [node["html"] for node in fault["nodes"]])
            for fault in Axe().run(page).response["violations"] if fault["impact"] in ("serious", "critical")
        ]
        assert faults == [], path
    assert backgrounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)"}
