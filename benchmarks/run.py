"""Prints what guarding costs: ``make bench``, or one part: ``python benchmarks/run.py --only cloud-run``.

Everything is measured in this one run, on this machine. Targets are ratios within the run, or name what they take for
granted; a busy machine can miss them, so they don't change the exit code.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import service
from azure_latency import azure_latency
from backend import ROUND_TRIP
from cold_start import cold_start
from job_throughput import job_throughput
from lambda_latency import lambda_latency
from middleware import middleware
from page_speed import page_speed
from ray_throughput import ray_throughput
from reap_scale import reap_scale
from report import Report

PARTS: dict[str, Callable[[Report], None]] = {
    "middleware": middleware,
    "cloud-run": service.cloud_run,
    "clients": service.clients,
    "spans": service.spans,
    "payloads": service.payloads,
    "lambda": lambda_latency,
    "azure": azure_latency,
    "cold-start": cold_start,
    "jobs": job_throughput,
    "ray": ray_throughput,
    "reap": reap_scale,
    "page": page_speed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the markers of this page")
    options = parser.parse_args()
    for name in ["machine", *options.only]:
        began, report = time.monotonic(), Report()
        PARTS.get(name, machine)(report)
        if name in PARTS:
            print(f"    ({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
        if options.write:
            report.write(options.write, name)


def machine(report: Report) -> None:
    report.note(
        f"Measured with Python {platform.python_version()} and braintrust {version('braintrust')} on {os.cpu_count()} "
        f"cores, the backend at {ROUND_TRIP * 1000:.0f} ms round trip."
    )


if __name__ == "__main__":
    main()
