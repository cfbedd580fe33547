"""The user's masking function and span customizers, which must see what is logged."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import braintrust.logger as bt

from ..redaction.outside_text import cut_middle
from ..rows import ERROR_LIMIT, bounded_error
from ..system.interruption import pass_interruption

__all__ = ["changes_rows", "error_text", "masked", "user_traceback"]

_MOST_MASKED = 8 * ERROR_LIMIT
_PACKAGE = __name__.partition(".")[0]


def error_text(error: BaseException) -> str:
    """The text of an exception as the SDK writes it, masked and bounded. Its traceback begins where the user's code
    begins."""
    text = "".join(traceback.format_exception(type(error), error, user_traceback(error.__traceback__)))
    return masked(text, f"{type(error).__name__}: its text could not be masked")


def user_traceback(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of this package that it begins with, and those of the standard library among
    them. None if no other code is in it, as when a function is called with the wrong arguments."""
    behind_ours, frame = trace, trace
    while frame is not None:
        package = str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
        if package == _PACKAGE or package.startswith(f"{_PACKAGE}_"):
            behind_ours = frame.tb_next
        elif package not in sys.stdlib_module_names:
            return trace if behind_ours is trace else frame
        frame = frame.tb_next
    return behind_ours


def masked(text: str, otherwise: str = "an error whose text could not be masked") -> str:
    """The text of an error after the user's masking function, which the SDK does not apply to errors; bounded.

    Args:
        otherwise: the text if that function raises.
    """
    mask = _masking_function()
    if mask is None:
        return bounded_error(text)
    try:
        # Masked before it is cut, as half a secret is not recognised; but not megabytes of it.
        return bounded_error(str(mask(cut_middle(text, _MOST_MASKED))))
    except Exception as error:  # noqa: BLE001 - as the SDK does: rather nothing than something that is not masked
        pass_interruption(error)
        return otherwise


def _masking_function() -> Callable[[Any], Any] | None:
    """The function that was given to ``set_masking_function``; releases differ in where they keep it."""
    background: Any = bt._state.global_bg_logger()
    kept = [background, *getattr(background, "_export_customizers", ())]
    found = [getattr(one, name, None) for one in kept for name in ("masking_function", "_masking_function")]
    return next((one for one in found if callable(one)), None)


def changes_rows(background: Any) -> bool:
    """True if a masking function or customizers change the rows of a background logger."""
    return bool(
        getattr(background, "_export_customizers", None) or getattr(background, "masking_function", None)
        or getattr(background, "_masking_function", None) or _span_customizers()
    )


_span_customizers: Callable[[], Any] = getattr(bt, "_get_span_customizers", lambda: None)
