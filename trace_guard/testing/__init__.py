"""Helpers that test guarded code: real programs run against simulated services.

- :class:`BraintrustServer` keeps rows as Braintrust does, and fails in every way that a network can
  (:class:`Fault`).
- :class:`LambdaSandbox` runs a handler under AWS's own runtime client, together with Lambda extensions. It freezes
  them between invocations, kills them at the timeout, and restarts them on the same disk. Linux;
  ``pip install "trace-guard[testing]"``.
- :class:`CloudRunSandbox` runs a server with its own command, stops it while no request is in flight, and ends it as
  Cloud Run does. Linux.
- :func:`fail_on_open_spans` fails a test whose code leaves a span open; :mod:`.pytest_plugin` has the fixture.

A program or handler comes in. What its callers received, and the rows that reached the server, come out: the evidence
for P1 to P8.
"""

from .braintrust_server import BraintrustServer, RecordedRequest
from .cloud_run_sandbox import CloudRunSandbox
from .faults import Fault
from .http_response import Chunk, HttpResponse
from .invoke_result import InvokeResult
from .lambda_sandbox import LambdaSandbox
from .open_spans import fail_on_open_spans
from .response_stream import ResponseStream
from .server_process import Termination

__all__ = [
    "BraintrustServer",
    "Chunk",
    "CloudRunSandbox",
    "Fault",
    "HttpResponse",
    "InvokeResult",
    "LambdaSandbox",
    "RecordedRequest",
    "ResponseStream",
    "Termination",
    "fail_on_open_spans",
]
