"""A live load of guarded work: ``python live_load.py SECONDS`` begins 50 invocations a second, and ends them all.

Most are short. Every second one begins that takes three seconds, and a job with a heartbeat runs all the time.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import braintrust

from trace_guard import Guard

A_SECOND = 50
guard = Guard(project="support-bot")


def short(number: int) -> None:
    with guard.invocation(f"short-{number % 10}"), braintrust.start_span("call"):
        time.sleep(0.02)


def long() -> None:
    with guard.invocation("long"):
        for number in range(10):
            with braintrust.start_span(f"step-{number}"):
                time.sleep(0.3)


def job(seconds: float) -> None:
    with guard.job("job", heartbeat=0.4):
        time.sleep(seconds)


def main(seconds: float) -> None:
    begun = time.monotonic()
    working = threading.Thread(target=job, args=(seconds,))
    working.start()
    with ThreadPoolExecutor(16) as pool:
        number = 0
        while (now := time.monotonic() - begun) < seconds:
            while number < now * A_SECOND:
                pool.submit(long) if number % A_SECOND == 0 else pool.submit(short, number)
                number += 1
            time.sleep(0.01)
    working.join()
    guard.close(timeout=30)
    print(number, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
