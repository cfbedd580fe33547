"""A DAG whose one task is killed in its first attempt."""

import os
import signal

import braintrust
from airflow.sdk import DAG, get_current_context, task

from trace_guard import guard_job

with DAG("killed", schedule=None, default_args={"retries": 1, "retry_delay": 0}):

    @task
    @guard_job
    def is_killed() -> str:
        with braintrust.start_span("step"):
            braintrust.flush()
            if get_current_context()["ti"].try_number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    is_killed()
