from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures import server as server
from page_rows import OpenPage, ServePage
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from trace_guard.backends.local import LocalStore


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of the local store."""
    path = tmp_path / "trace-guard"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def store(directory: Path) -> Iterator[LocalStore]:
    made = LocalStore(directory / "traces.db")
    yield made
    made.close()


@pytest.fixture
def serve(directory: Path) -> Iterator[ServePage]:
    """Starts ``trace-guard ui`` and returns the page's address."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        command = [sys.executable, "-m", "trace_guard", "ui", "--dir", str(directory), "--port", "0", "--no-open"]
        running.append(subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        ))
        assert running[-1].stdout is not None
        said = running[-1].stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address is not None, f"{said}{running[-1].communicate()[1]}"
        return address.group(0)

    yield start
    for process in running:
        if process.poll() is not None:
            continue  # it has refused to start
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert errors == ""


# Not for the session: while Playwright runs, no other test of this process can run an event loop.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine, and `make browser` could not install one")
    # Chromium's sandbox does not work for root, as whom containers run.
    started = playwright.chromium.launch(executable_path=path, args=[
        "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ])
    yield started
    started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address. A script error, or a message on the console, fails the test."""
    contexts, said = [], []

    def visit(address: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    # A page that is still open when the command ends tries to connect again.
    assert [message for message in said if "ERR_CONNECTION_REFUSED" not in message] == []
