"""One span for each attempt of a Celery task. Copy this file and import it where your Celery application is created.

A task is a child of the span that sent it, and all of its attempts are in one trace. Pool children end by a kill or
``os._exit`` and run no ``atexit``. So each task's spans are delivered when it ends, and the replacement of a killed
child closes what that child left open.
"""

import sys
from typing import Any

import braintrust
from celery import Task, current_task, states
from celery.exceptions import Retry
from celery.signals import (
    before_task_publish,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
)

from trace_guard import Deadline, Job, configure

PARENT = "braintrust_parent"  # a header of the task's message

guard = configure(project="support-bot")  # add flush="after-response" if tasks must not wait for delivery
running: dict[str, Job] = {}


@before_task_publish.connect
def send_parent(headers: dict[str, Any], **_: Any) -> None:
    """Send the current span with the task. A retry sends the same parent as the first attempt."""
    sender = current_task.request if current_task else None
    sent = getattr(sender, PARENT, None) if sender is not None and sender.id == headers["id"] else None
    headers[PARENT] = sent or braintrust.current_span().export()


@worker_process_init.connect
def start(**_: Any) -> None:
    """Close what a killed child left open. Delivery happens in the background."""
    guard.start()


@task_prerun.connect
def begin(task_id: str, task: Task, args: Any, kwargs: Any, **_: Any) -> None:
    request = task.request
    attempt = {"id": task_id, "group": task_id, "attempt": request.retries + 1, "retries": request.retries}
    job = guard.job(
        task.name,
        parent=getattr(request, PARENT, None),
        input={"args": args, "kwargs": kwargs},
        metadata={"job": {"platform": "celery", **attempt, "worker": request.hostname}},
    )
    hard_limit = (request.timelimit or (None,))[0] or task.time_limit
    if hard_limit:  # open spans are closed as timed out and delivered before the pool kills the child
        job.invocation.deadline = Deadline.after(hard_limit)
    running[task_id] = job.open()


@task_postrun.connect
def end(task_id: str, state: str | None, retval: Any, **_: Any) -> None:
    job = running.pop(task_id, None)
    if job is None:
        return
    error = None
    if state == states.SUCCESS:
        job.invocation.set_output(retval)
    elif state == states.FAILURE:
        error = retval
    elif isinstance(retval, Retry):
        error = retval.exc  # None if the task was not retried for an exception
    elif state is None:
        error = sys.exc_info()[1]  # SystemExit and similar, which Celery does not catch
    job.invocation.note({"job": {"state": state}})
    job.close(error)


@worker_process_shutdown.connect
def shut_down(**_: Any) -> None:
    """Deliver everything when a child is recycled or its worker is stopped."""
    guard.close(timeout=5)
