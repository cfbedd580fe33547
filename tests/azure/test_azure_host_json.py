"""The values that the host accepts in ``host.json``."""

from __future__ import annotations

from pathlib import Path

import pytest

from trace_guard_azure import timeouts


@pytest.mark.parametrize(("text", "seconds"), [
    ('{"functionTimeout": -1}', None),
    ('{"functionTimeout": "-1"}', None),
    ('{"functionTimeout": "00:02:00", "logging": {"levels": ["a", "b",], },}', 120),
    ('{"x": "a,]", /* , */ "functionTimeout": "00:01:00.5" // ,}\n,}', 60.5),
])
def test_host_json_is_read_as_the_host_reads_it(tmp_path: Path, text: str, seconds: float | None) -> None:
    """A timeout is read as the host reads it: no limit also as a number, and from JSON with comments and trailing
    commas."""
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    assert timeouts._host_seconds(str(tmp_path), "") == seconds
