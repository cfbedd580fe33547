"""Requests that pass through keep the SDK's own retries and timeouts.

Once an adapter is set, the SDK leaves both to it. Without this module, requests that the SDK alone would retry after a
reset or a 503 would fail at once.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import braintrust.logger as bt
from requests.adapters import HTTPAdapter

from ..contain import contain

__all__ = ["TransportRetries", "default_timeout", "retrying_adapter"]

_RETRIES = 10
_TIMEOUT_SECONDS = 60.0


def default_timeout() -> float:
    """Seconds for a request that the SDK sets no timeout for, as its own adapter has it."""
    try:
        return float(os.environ.get("BRAINTRUST_HTTP_TIMEOUT", "")) or _TIMEOUT_SECONDS
    except ValueError:
        return _TIMEOUT_SECONDS


def retrying_adapter() -> HTTPAdapter:
    """An adapter that repeats requests after network errors, like the SDK's adapter for long-lived connections."""
    make: Any = getattr(bt, "RetryRequestExceptionsAdapter", None)
    if make is None:
        with contain("find the SDK's own adapter"):
            make = importlib.import_module("braintrust.api._transport").RetryRequestExceptionsAdapter
    return HTTPAdapter() if make is None else make(base_num_retries=_RETRIES, backoff_factor=0.5)


class TransportRetries:
    """Switches the retries of the SDK's newer HTTP client on again where the gateway is its adapter."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._replaced: list[tuple[str, Any]] = []

    def install(self) -> None:
        """Install once. A second call does nothing, nor does any call in a release without that client."""
        try:
            self._transport: Any = importlib.import_module("braintrust.api._transport").Transport
        except (ImportError, AttributeError):
            return
        for name in () if self._replaced else ("__init__", "_set_adapter"):
            plain = getattr(self._transport, name, None)
            if plain is not None:
                setattr(self._transport, name, self._keeping(plain))
                self._replaced.append((name, plain))

    def uninstall(self) -> None:
        for name, plain in self._replaced:
            setattr(self._transport, name, plain)
        self._replaced = []

    def _keeping(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def call(transport: Any, *args: Any, **options: Any) -> Any:
            result = plain(transport, *args, **options)
            injected: Any = getattr(transport, "_injected_adapter", None)
            is_ours = injected is self._gateway and injected is not None and injected.inner is None
            if is_ours and options.get("enable_sdk_retries") is None:
                transport._sdk_retries_enabled = True
            return result

        return call
