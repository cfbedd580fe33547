"""Takes the pictures of the page for the docs, of the demo's traces: ``make screenshots``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[2] / "docs" / "images"
TRACE_GUARD = [sys.executable, "-m", "trace_guard"]


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([*TRACE_GUARD, "demo", "--dir", directory], check=True)
        command = [*TRACE_GUARD, "ui", "--dir", f"{directory}/demo", "--port", "0", "--no-open"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            try:
                take(address.group(0))
            finally:
                server.terminate()


def take(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 560})
        page.goto(address)
        page.screenshot(path=IMAGES / "traces.png")
        page.goto(f"{address}/?state=closed")
        page.locator("table.traces tbody tr", has_text="timed_out").first.click()
        page.locator("table.waterfall .mark").first.wait_for()
        page.screenshot(path=IMAGES / "trace.png")
        browser.close()


if __name__ == "__main__":
    main()
