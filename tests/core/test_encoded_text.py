"""JSON and base64 within text, whole and cut."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from trace_guard.redaction.encoded_text import complete_json, decode_base64, find_json, parse_json

MARK = "cut"


def always(steps: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "b', {"a": "b", MARK: True}),
        ('{"a": "b\\', {"a": "b", MARK: True}),
        ('{"a": "b\\u00', {"a": "b", MARK: True}),
        ('{"a": 1, "b', {"a": 1, MARK: True}),
        ('{"a": 1, "b": ', {"a": 1, MARK: True}),
        ('{"a": 1, "b": 12', {"a": 1, "b": 12, MARK: True}),
        ('{"a": [1, {"b": "c', {"a": [1, {"b": "c", MARK: True}, MARK], MARK: True}),
        ('[["a", "b"], ["c"', [["a", "b"], ["c", MARK], MARK]),
        ("[", [MARK]),
        ('{"a": "[{", "b": [', {"a": "[{", "b": [MARK], MARK: True}),
        ("{]", None),
        ("]", None),
        ("{'a': 'b'", None),
        ("", None),
    ],
)
def test_cut_json_is_completed(text: str, value: Any) -> None:
    """Of JSON that is cut what is there can be read, and each object and list that goes on is marked."""
    parsed = complete_json(text, MARK, always)
    assert (parsed and parsed.value) == value


@pytest.mark.parametrize("end", range(1, 80, 3))
def test_json_can_be_cut_anywhere(end: int) -> None:
    """Wherever the cut goes through, JSON is completed."""
    text = json.dumps({"a": ["b", {"c": "d\\\"\u00fc\n", "e": None}, 1.5], "f": {"g": [[True], {}]}, "h": "i" * 20})
    assert complete_json(text[:end], MARK, always) is not None


def test_json_is_found_in_text() -> None:
    """Objects and lists are found between words, also one that is cut, and keys that come twice are told."""
    text = '[INFO] a {"b": 1} c [{"d": 1, "d": 2}] e {"f": "g'
    found = [(parsed.value, parsed.has_duplicates, parsed.is_whole) for _, parsed in find_json(text, MARK, always)]
    assert found == [({"b": 1}, False, True), ([{"d": 2}], True, True), ({"f": "g", MARK: True}, False, False)]
    assert parse_json(' {"a": 1} ') is not None
    assert parse_json('{"a": 1} b') is None
    assert parse_json("1") is None


def test_base64_is_decoded() -> None:
    """Text in base64 is decoded, compressed or not; of a bomb only so much as there is room for."""
    assert decode_base64(base64.b64encode("ü".encode()).decode(), 10) == "ü"
    assert decode_base64(base64.b64encode(gzip.compress(b"a" * 10_000_000)).decode(), 10) == "a" * 10
    assert decode_base64(base64.b64encode(b"\xff").decode(), 10) == b"\xff"
    assert decode_base64("no base64!", 10) is None


SCANS: dict[str, Callable[[str], object]] = {
    "complete": lambda text: complete_json(text, MARK, always),
    "find": lambda text: list(find_json(text, MARK, always)),
    "parse": parse_json,
    "decode": lambda text: decode_base64(text, 65536),
}
PARTS = ['[', '{"a":', '"', '\\"', '"\\', "{},", "[1]", '["', " ", "A", "A\n", "-", '{"a":1}x', "[t", ',"']


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS.keys())
@pytest.mark.parametrize("part", PARTS)
def test_the_reading_is_linear(scan: Callable[[str], object], part: str) -> None:
    """Four times as much of a hostile text takes about four times as long, whatever it is made of."""

    def seconds(size: int) -> float:
        text = '{"' + part * (size // len(part))
        best = 1e9
        for _ in range(3):
            began = time.thread_time()
            scan(text)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(65536) < 8 * seconds(16384) + 0.005
