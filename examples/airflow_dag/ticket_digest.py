"""An Airflow DAG whose tasks are guarded.

``@task`` goes above ``@guard_job``, so that Airflow calls the guarded function. Airflow forks a process for each
attempt and ends it with ``os._exit``; the attempt's spans are closed and delivered before that.
"""

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, get_current_context, task
from fake_llm import complete

from trace_guard import guard_job

with DAG(
    "ticket_digest",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=0)},
):

    @task
    @guard_job(project="support-bot")
    def load_tickets() -> list[str]:
        return ["Where is my invoice?", "The app does not start."]

    @task
    @guard_job(project="support-bot")
    def summarize(tickets: list[str]) -> str:
        # The model is overloaded during the first attempt.
        first = get_current_context()["ti"].try_number == 1
        return complete(f"Summarize: {tickets}", overloaded=first)

    summarize(load_tickets())
