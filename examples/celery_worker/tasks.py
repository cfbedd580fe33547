"""A Celery application. Importing ``tracing`` traces its tasks."""

import os

import tracing  # noqa: F401 - connects the signals
from celery import Celery, Task
from fake_llm import Overloaded, complete

app = Celery(
    "support_bot",
    broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", "redis://localhost"),
)


@app.task
def classify(ticket: str) -> str:
    return complete(f"Which department is this for? {ticket}")


@app.task(bind=True, autoretry_for=(Overloaded,), max_retries=3, default_retry_delay=1)
def classify_under_load(self: Task, ticket: str, busy: int = 1) -> str:
    """The model is overloaded during the first ``busy`` attempts."""
    return complete(f"Which department is this for? {ticket}", overloaded=self.request.retries < busy)
