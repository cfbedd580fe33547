"""A state of the SDK for one object that user code opens with credentials of its own."""

from __future__ import annotations

from typing import Any

import braintrust.logger as bt

__all__ = ["CallState"]


def _shared(name: str) -> Any:
    """An attribute of the global state. None, which the SDK sets at first, is not passed on to it."""
    def store(_: Any, value: Any) -> None:
        if value is not None:
            setattr(bt._state, name, value)

    return property(lambda _: getattr(bt._state, name), store)


class CallState(bt.BraintrustState):
    """Logs in by itself, and shares all else with the global state: spans nest in each other, the masking function
    and ``flush()`` hold for its rows too, and what becomes current is current for the program."""

    context_manager = _shared("context_manager")
    current_parent = _shared("current_parent")
    current_experiment = _shared("current_experiment")
    current_logger = _shared("current_logger")
    _cv_logger = _shared("_cv_logger")
    _local_logger = _shared("_local_logger")
    span_cache = _shared("span_cache")

    def global_bg_logger(self) -> Any:
        return bt._state.global_bg_logger()

    def login_replace_api_conn(self, api_conn: Any) -> None:
        """The rows of the global state keep their own connection."""

    def flush(self) -> None:
        bt._state.flush()  # type: ignore[no-untyped-call]

    def enforce_queue_size_limit(self, enforce: bool) -> None:
        bt._state.enforce_queue_size_limit(enforce)

    def set_masking_function(self, masking_function: Any) -> None:
        bt._state.set_masking_function(masking_function)
