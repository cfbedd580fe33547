"""The public place of :func:`flush_opentelemetry`, for :meth:`Guard.before_flush`."""

from .invocation.flush_hooks import flush_opentelemetry

__all__ = ["flush_opentelemetry"]
