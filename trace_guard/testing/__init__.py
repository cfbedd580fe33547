"""Helpers for testing code that is guarded, or that guards: real programs against stand-ins of both ends.

- :class:`BraintrustServer` keeps rows as Braintrust does, and fails in every way that a network can
  (:class:`Fault`).
- :class:`LambdaSandbox` runs a handler under AWS's own runtime client, and Lambda extensions beside it, freezes
  them between invocations, kills them at the timeout, and starts them again on the same disk. Linux;
  ``pip install "trace-guard[testing]"``.
- :class:`CloudRunSandbox` starts a server by its own command, stops it whenever no request is in flight, and ends
  it as Cloud Run does. Linux.
"""

from .braintrust_server import BraintrustServer, RecordedRequest
from .cloud_run_sandbox import CloudRunSandbox
from .faults import Fault
from .http_response import Chunk, HttpResponse
from .invoke_result import InvokeResult
from .lambda_sandbox import LambdaSandbox
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
]
