"""Whatever is captured is a bounded copy of it in JSON, made in bounded time."""

from __future__ import annotations

import json
from typing import Any

from clearing_backend import ClearingBackend
from fuzzer import Fuzzer
from hypothesis import strategies as st
from values import SECRET, keys, payloads

from trace_guard import Guard
from trace_guard import contain as containment


def captured(guard: Guard, backend: ClearingBackend, value: Any) -> Any:
    with containment.raising(), guard.invocation("f", input=value):
        pass
    (row,) = backend.take()
    text = json.dumps(row, allow_nan=False)
    assert len(text) < 8 * guard.settings.max_payload_bytes
    return row


def test_any_payload(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Any value can be captured, in a second and in 64 MB at most, as JSON that is not much longer than allowed."""
    fuzzer.run(payloads, lambda value: captured(guard, backend, value))


def test_a_secret_beside_any_payload(fuzzer: Fuzzer, guard: Guard, backend: ClearingBackend) -> None:
    """Whatever stands beside it, above it or before it, the value of a secret key is in no captured copy."""
    secret = st.sampled_from([
        {"password": SECRET}, {"Authorization": f"Bearer {SECRET}"}, {"x-api-key": [SECRET]},
        json.dumps({"access_token": SECRET}), f"a=b&token={SECRET}", {"body": json.dumps({"secret": {"a": SECRET}})},
    ])
    beside = st.builds(lambda one, two: [one, two], payloads, secret)
    below = st.builds(lambda key, one, two: {"first": one, key: two}, keys, payloads, secret)

    def check(value: Any) -> None:
        assert SECRET not in json.dumps(captured(guard, backend, value))

    fuzzer.run(beside | below, check)
