"""The end of the driver that the other tests of Ray have used: they come before."""

from __future__ import annotations

from ray_.driver import Driver
from support import pending_in


def test_the_end(driver: Driver) -> None:
    """When the driver has ended nothing is open, and nothing is left to be delivered."""
    driver.program.tell()
    assert driver.hears() == "bye"
    driver.program.ends_well(60)
    assert driver.server.open_spans() == []
    assert pending_in(driver.directory) == []
