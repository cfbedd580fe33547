"""Repairs stuck traces of a large organisation on a Ray cluster: each task has a share of the projects and days.

A task that fails, or whose node dies, is repeated: what was closed before is closed, and the rest is done. At the end
there is one summary of all shares.
"""

import argparse
import sys

import ray

from trace_guard import BackendError, Reaper

NUMBERS = ("found", "closed", "closed_spans", "left_alone", "cleared")


@ray.remote(max_retries=3, retry_exceptions=[BackendError])
def reap(share, options, close):
    reaper = Reaper(shard=share, **options)
    try:
        if close:
            return reaper.close().to_json()
        return {"found": sum(1 for _ in reaper.find())}
    finally:
        reaper.disconnect()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--project", action="append", default=[])
    arguments.add_argument("--older-than-hours", type=float, default=6)
    arguments.add_argument("--since-days", type=float, default=30)
    arguments.add_argument("--shards", type=int, default=16)
    arguments.add_argument("--close", action="store_true")
    given = arguments.parse_args()
    options = {
        "projects": given.project, "all_projects": not given.project,
        "older_than": given.older_than_hours * 3600, "since": given.since_days * 86400, "parallel": 1,
    }
    ray.init(include_dashboard=False, log_to_driver=False)
    shares = [f"{index}/{given.shards}" for index in range(given.shards)]
    running = {reap.remote(share, options, given.close): share for share in shares}
    total, failed = dict.fromkeys(NUMBERS, 0), {}
    while running:
        (reference,), _ = ray.wait(list(running))
        share = running.pop(reference)
        try:
            done = ray.get(reference)
        except ray.exceptions.RayError as error:
            failed[share] = str(error).strip().splitlines()[-1]
            continue
        for name in NUMBERS:
            total[name] += done.get(name, 0)
    print(f"{given.shards - len(failed)} of {given.shards} shares done:", end=" ")
    print(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in total.items()))
    for share, error in failed.items():
        print(f"share {share} failed: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
