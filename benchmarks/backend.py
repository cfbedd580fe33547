"""The stand-in for Braintrust as a process of its own, so that its work is not counted as anybody else's.

It keeps the bodies of rows as they come and reads them when it is asked: while others are measured, it takes little
of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from trace_guard.testing import BraintrustServer
from trace_guard.testing.braintrust_api import rows_in
from trace_guard.testing.http_wire import Request, Response

__all__ = ["ROUND_TRIP", "Arrived", "Backend"]

ROUND_TRIP = 0.050


class Arrived(NamedTuple):
    """What has come so far: requests with rows, bytes in them, traces all of whose spans have ended, and spans."""

    requests: int = 0
    bytes: int = 0
    closed: int = 0
    ended_spans: int = 0
    open_spans: int = 0

    def since(self, before: Arrived) -> Arrived:
        return Arrived(*(now - then for now, then in zip(self, before, strict=True)))


class Backend:
    """Runs until the end of the ``with`` block."""

    def __init__(self, latency: float = ROUND_TRIP) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(latency)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout
        url = self._answers.readline().strip()
        self.environment = {"BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": url, "BRAINTRUST_API_URL": url}

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.close()
        self._answers.close()
        self._process.wait(10)

    def arrived(self) -> Arrived:
        return self._ask("")

    def fail(self, is_failing: bool) -> None:
        """Answer rows with 503 from now on, or take them again."""
        self._ask("fail" if is_failing else "heal")

    def _ask(self, word: str) -> Arrived:
        self._asked.write(f"{word}\n")
        self._asked.flush()
        return Arrived(*json.loads(self._answers.readline()))

    def settled(self, is_enough: Callable[[Arrived], bool], timeout: float = 20) -> Arrived:
        """What has come when it is enough, or after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not is_enough(found := self.arrived()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


class _Sink(BraintrustServer):
    def __init__(self, latency: float) -> None:
        self._unread: list[bytes] = []
        self._ended: dict[str, bool] = {}
        self._roots: dict[str, str] = {}
        self._counts = [0, 0]
        self.is_failing = False
        super().__init__(latency=latency, kept_requests=0)

    def respond(self, request: Request) -> Response | None:
        if request.path != "/logs3":
            return super().respond(request)
        if self.is_failing:
            return Response.json({}, 503)
        self._unread.append(request.body)
        self.closing.wait(self.latency)
        return Response.json({})

    def arrived(self) -> Arrived:
        unread, self._unread = self._unread, []
        for body in unread:
            self._counts[0] += 1
            self._counts[1] += len(body)
            for row in rows_in(body):
                span = row["id"]
                self._ended[span] = self._ended.get(span, False) or "end" in (row.get("metrics") or {})
                self._roots[span] = row["root_span_id"]
        still_open = [span for span, has_ended in self._ended.items() if not has_ended]
        closed = set(self._roots.values()) - {self._roots[span] for span in still_open}
        return Arrived(*self._counts, len(closed), len(self._ended) - len(still_open), len(still_open))


if __name__ == "__main__":
    with _Sink(float(sys.argv[1])) as sink:
        print(sink.url, flush=True)
        for word in sys.stdin:
            if word.strip():
                sink.is_failing = word.strip() == "fail"
            print(json.dumps(sink.arrived()), flush=True)
