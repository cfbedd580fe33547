"""Libraries that trace, forbid or replace what trace-guard uses, in users' programs and tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import REPOSITORY, Program, environment

from trace_guard.testing import BraintrustServer


def test_opentelemetry_sees_no_request_of_ours(server: BraintrustServer, directory: Path) -> None:
    """Requests of the program are spans of OpenTelemetry's instrumentation, and deliveries are not."""
    with Program("""
    import urllib3
    from opentelemetry import trace
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    URLLib3Instrumentor().instrument()
    from trace_guard import Guard

    with Guard().invocation("root") as invocation:
        urllib3.PoolManager().request("GET", os.environ["BRAINTRUST_API_URL"] + "/ping")
    say(invocation.delivery.verdict.name, len(exporter.get_finished_spans()))
    """, environment(server, directory)) as program:
        program.expects("DELIVERED", 1)
        program.ends_well()


def test_xray_sees_no_request_of_ours(server: BraintrustServer, directory: Path) -> None:
    """Requests of the program are subsegments of X-Ray, and deliveries are not."""
    with Program("""
    import http.client, urllib.parse
    from aws_xray_sdk.core import patch, xray_recorder
    sent = []
    class Emitter:
        def send_entity(self, entity): sent.append(entity)
        def set_daemon_address(self, address): pass
    xray_recorder.configure(sampling=False, emitter=Emitter(), context_missing="RUNTIME_ERROR")
    patch(["httplib"])
    from trace_guard import Guard

    with xray_recorder.in_segment("user") as segment:
        with Guard().invocation("root") as invocation:
            connection = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["BRAINTRUST_API_URL"]).netloc)
            connection.request("GET", "/ping")
            connection.getresponse().read()
        say(invocation.delivery.verdict.name, len(segment.subsegments) > 0,
            any("logs3" in str(each.http) or "login" in str(each.http) for each in segment.subsegments))
    """, environment(server, directory)) as program:
        program.expects("DELIVERED", True, False)
        program.ends_well()


TESTS = '''
import braintrust, pytest
from trace_guard import Guard, default_guard, guard_job, step
from trace_guard.outcome import Verdict

@guard_job(progress=False)
def answer(question):
    with step("think"):
        return 42

def test_a_guarded_function():
    assert answer("of life") == 42

def test_nothing_is_lost():
    with Guard(flush_timeout=0.5).invocation("root") as invocation:
        pass
    # A connection that was opened between two tests still works.
    assert invocation.delivery.verdict in (Verdict.SPOOLED, Verdict.DELIVERED)
'''


def run_tests(directory: Path, tests: str, server: BraintrustServer, *options: str) -> None:
    """Run a user's tests in a pytest of their own, in which every warning is an error."""
    (directory / "user").mkdir(parents=True)
    (directory / "user" / "test_user.py").write_text(tests)
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "adapters")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=directory / "user", capture_output=True, text=True, timeout=100,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": paths,
            **environment(server, directory / "state", TRACE_GUARD_EXIT_TIMEOUT="1"),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_forbidden_sockets_fail_no_test(server: BraintrustServer, directory: Path) -> None:
    """Under pytest-socket a user's tests of guarded code pass, and no thread of ours ends with an exception."""
    run_tests(directory, TESTS, server, "--disable-socket")


def test_a_fake_file_system_fails_no_test(server: BraintrustServer, directory: Path) -> None:
    """Under pyfakefs a user's tests of guarded code pass if they close the guard before the fake ends."""
    tests = TESTS.partition("def test_nothing_is_lost")[0].replace("function()", "function(fs)")
    run_tests(directory, f"{tests}    default_guard().close()\n", server)
