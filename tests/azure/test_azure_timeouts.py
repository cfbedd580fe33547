"""The timeouts of functions in the host's settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trace_guard_azure import timeouts


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AzureWebJobsScriptRoot", "AzureFunctionsJobHost__functionTimeout", "WEBSITE_SKU",
                 "WEBSITE_INSTANCE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    timeouts._host_seconds.cache_clear()
    timeouts.host_file.cache_clear()


def seconds(directory: Path, timeout: float | None = None) -> float | None:
    deadline = timeouts.deadline(str(directory), timeout)
    return None if deadline is None else round(deadline.remaining)


@pytest.mark.parametrize(("text", "expected"), [
    ("00:05:00", 300), ("01:00:00", 3600), ("1.00:00:30", 86430), ("00:10", 600), ("00:00:01.5", 1.5), ("-1", None),
])
def test_time_spans_of_the_host(text: str, expected: float | None) -> None:
    """A ``functionTimeout`` is read in every form that the host accepts."""
    assert timeouts.seconds_of(text) == expected


@pytest.mark.parametrize(("host", "variables", "expected"), [
    ({"functionTimeout": "00:10:00"}, {}, 600),
    ({"functionTimeout": "00:10:00"}, {"AzureFunctionsJobHost__functionTimeout": "00:01:00"}, 60),
    ({"functionTimeout": "-1"}, {"WEBSITE_SKU": "Dynamic"}, None),
    ({"functionTimeout": "ten"}, {"WEBSITE_SKU": "Dynamic"}, 300),
    ({}, {"WEBSITE_SKU": "Dynamic"}, 300),
    ({"version": "2.0"}, {}, 1800),
    ({}, {"WEBSITE_INSTANCE_ID": "i"}, 1800),
    (None, {}, None),
])
def test_the_timeout_of_a_function(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: dict[str, str] | None, variables: dict[str, str],
    expected: float | None,
) -> None:
    """Our setting overrides the host's variable, the variable overrides host.json, and host.json overrides the
    plan's default."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if host is not None:
        (tmp_path / "host.json").write_text(json.dumps(host))
    function = tmp_path / "orders" / "function"
    function.mkdir(parents=True)
    assert seconds(function) == expected
    assert (seconds(function, 20), seconds(function, 0)) == (20, None)


def test_a_host_file_with_comments(tmp_path: Path) -> None:
    """Comments in host.json, which the host accepts, are skipped."""
    (tmp_path / "host.json").write_text('{ // "a"\n "x": "http://y", /* \n */ "functionTimeout": "00:02:00" }')
    assert seconds(tmp_path) == 120


def test_a_broken_host_file_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A host.json that can't be read leaves the function without a deadline and is logged."""
    (tmp_path / "host.json").write_text("{")
    assert seconds(tmp_path) is None
    assert "host.json is not JSON" in caplog.text
