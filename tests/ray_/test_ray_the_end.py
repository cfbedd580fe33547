"""The end of the driver that the other Ray tests share. Those tests run before."""

from __future__ import annotations

from ray_.driver import Driver
from support import pending_in


def test_the_end(driver: Driver) -> None:
    """After the driver's end, no span is open and all rows are delivered."""
    driver.program.tell()
    assert driver.hears() == "bye"
    driver.program.ends_well(60)
    assert driver.server.open_spans() == []
    assert pending_in(driver.directory) == []
