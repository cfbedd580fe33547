"""What a user does with attachments, under each release of the SDK: ``attachment_scenarios.py NAME DIRECTORY``.

Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import braintrust
from braintrust import Attachment
from braintrust.logger import ReadonlyAttachment

from trace_guard import Guard

LARGE = bytes(range(256)) * 20_000


def attachments(home: Path) -> list[Attachment]:
    """One from memory, one from a file, and one that is empty."""
    path = home / "report.txt"
    path.write_text("from a file")
    common = {"content_type": "text/plain"}
    return [
        Attachment(data=LARGE, filename="large.bin", **common),
        Attachment(data=str(path), filename="report.txt", **common),
        Attachment(data=b"", filename="empty.txt", **common),
    ]


def delivers(home: Path) -> Any:
    """An invocation with attachments, and a span outside of any."""
    guard = Guard()
    with guard.invocation("root") as invocation:
        invocation.span.log(input={"files": attachments(home)})
    outside = attachments(home)[1]
    braintrust.start_span(name="outside", input=outside).end()
    braintrust.flush()
    assert invocation.delivery is not None
    return [invocation.delivery.verdict.value, ReadonlyAttachment(outside.reference).data.decode()]


def is_killed(home: Path) -> None:
    """Nobody answers, and the process is killed in the middle of a span; says how long flush() took."""
    with Guard().invocation("root"), braintrust.start_span(name="step") as step:
        step.log(input={"files": attachments(home)})
        began = time.monotonic()
        braintrust.flush()
        print(json.dumps(time.monotonic() - began), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def recovers(home: Path) -> Any:
    """A later process delivers what an earlier one could not."""
    return Guard().start().flush(20)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
