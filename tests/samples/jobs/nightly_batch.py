"""A batch job whose exit code tells the scheduler how it went."""

import sys

from fake_model import complete

from trace_guard import guard_job, process

TICKETS = {"good": ["tea", "rain"], "half": ["tea", "fail"], "bad": ["fail", "fail"]}


@guard_job(name="nightly-batch")
def main(day):
    results = list(process(TICKETS[day], complete, workers=1))
    failed = sum(not result.ok for result in results)
    if failed == len(results):
        sys.exit("every ticket failed")
    if failed:
        sys.exit(3)
    return {"sorted": len(results)}
