"""What all adapters do alike."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from .contain import logger
from .errors import SettingsError
from .guard import Guard, default_guard
from .outcome import FlushPolicy

__all__ = ["guard_for"]


def guard_for(guard: Guard | None, *, flush: FlushPolicy | str | None = None, **keywords: Any) -> Guard | None:
    """The guard for a decorator's keywords: the given or the default one, or one like it with the keywords'
    settings, which shares its journal and courier.

    None if the environment's settings are not accepted: that is reported, and must not take the user's
    function down.

    Raises:
        SettingsError: a keyword is not accepted; that shows as soon as the module is imported in a test.
    """
    given = {key: value for key, value in keywords.items() if value is not None}
    if flush is not None:
        try:
            given["flush"] = FlushPolicy(flush.lower() if isinstance(flush, str) else flush)
        except ValueError as error:
            raise SettingsError(
                f"flush={flush!r} is not accepted: it takes auto, before-response or after-response"
            ) from error
    if guard is None:
        try:
            guard = default_guard()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's module must load
            with contextlib.suppress(Exception):
                logger.error("trace-guard is off: %s", error)
            return None
    return guard.like(replace(guard.settings, **given)) if given else guard
