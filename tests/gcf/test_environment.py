"""Metadata from the environment, without any network request."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from trace_guard_gcf import environment

FUNCTION = {
    "K_SERVICE": "support-bot", "K_REVISION": "support-bot-00007", "FUNCTION_TARGET": "main",
    "FUNCTION_REGION": "europe-west1", "GOOGLE_CLOUD_PROJECT": "p",
}
SERVICE = {"K_SERVICE": "support-bot", "K_REVISION": "support-bot-00007", "K_CONFIGURATION": "support-bot"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*FUNCTION, *SERVICE, "FUNCTION_NAME", "GCP_PROJECT", "CLOUD_RUN_TIMEOUT_SECONDS"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "facts"),
    [
        (FUNCTION, {
            "faas.name": "support-bot", "faas.version": "support-bot-00007", "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_functions", "cloud.region": "europe-west1", "cloud.account.id": "p",
        }),
        (SERVICE, {
            "faas.name": "support-bot", "faas.version": "support-bot-00007", "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_run",
        }),
        ({"FUNCTION_TARGET": "main"}, {"faas.name": "main"}),
        ({}, {}),
    ],
    ids=["function", "service", "locally", "elsewhere"],
)
def test_the_facts_are_those_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], facts: dict[str, str]
) -> None:
    """The variables of Cloud Functions and Cloud Run become metadata with OpenTelemetry's names. Other environments
    have none."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert {key: value for key, value in environment.facts().items() if key != "faas.coldstart"} == facts


def test_the_first_call_of_a_process_is_a_cold_start() -> None:
    """Only the first invocation of a process is a cold start."""
    code = "from trace_guard_gcf.environment import facts; print([facts()['faas.coldstart'] for _ in range(3)])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[True, False, False]"


@pytest.mark.parametrize(("target", "name"), [("main", "support-bot"), ("other", "main"), (None, "main")])
def test_the_served_function_has_the_services_name(
    monkeypatch: pytest.MonkeyPatch, target: str | None, name: str
) -> None:
    """The function that a service serves has the service's name, and another function has its own name."""
    monkeypatch.setenv("K_SERVICE", "support-bot")
    if target:
        monkeypatch.setenv("FUNCTION_TARGET", target)
    assert environment.function_name("main") == name


@pytest.mark.parametrize("value", ["", "0", "-5", "soon", "nan", "inf"])
def test_an_invalid_timeout_gives_no_deadline(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A missing or invalid timeout gives no deadline and no error."""
    monkeypatch.setenv("CLOUD_RUN_TIMEOUT_SECONDS", value)
    assert environment.deadline() is None


def test_the_timeout_is_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request timeout, counted from the request's arrival, is the deadline."""
    monkeypatch.setenv("CLOUD_RUN_TIMEOUT_SECONDS", "60")
    deadline = environment.deadline()
    assert deadline is not None
    assert 59 < deadline.remaining <= 60


def test_the_package_imports_no_framework() -> None:
    """Importing the package loads neither the framework nor Flask, Starlette, a server, an HTTP client or the SDK."""
    heavy = {
        "functions_framework", "flask", "werkzeug", "starlette", "cloudevents", "gunicorn", "uvicorn", "http.client",
        "braintrust", "sqlite3",
    }
    code = "import sys, json, trace_guard_gcf; print(json.dumps([*sys.modules]))"
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)))
    assert loaded & heavy == set()
