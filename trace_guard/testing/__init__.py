"""Helpers for testing code that is guarded, or that guards: real programs against stand-ins of both ends.

- :class:`BraintrustServer` keeps rows as Braintrust does, and fails in every way that a network can
  (:class:`Fault`).
- :class:`LambdaSandbox` runs a handler under AWS's own runtime client, and Lambda extensions beside it, freezes
  them between invocations, kills them at the timeout, and starts them again on the same disk. Linux;
  ``pip install "trace-guard[testing]"``.
"""

from .braintrust_server import BraintrustServer, RecordedRequest
from .faults import Fault
from .invoke_result import InvokeResult
from .lambda_sandbox import LambdaSandbox

__all__ = ["BraintrustServer", "Fault", "InvokeResult", "LambdaSandbox", "RecordedRequest"]
