"""Serves the page on loopback until it is interrupted."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from ..errors import TraceGuardError
from .app import make_app
from .health import Health
from .source import TraceSource

__all__ = ["DEFAULT_PORT", "serve"]

DEFAULT_PORT = 8765
_GOODBYE_SECONDS = 1


def serve(
    source: TraceSource, health: Health, *, port: int | None, browser: bool, said: Callable[[str], None]
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        port: the port to listen on; None for :data:`DEFAULT_PORT`, or any free port if that is taken.
        browser: open the page in a browser if there is one.
        said: is called with the page's address once it can be opened.

    Raises:
        TraceGuardError: the port is taken.
    """
    listener = _listen(port)
    with listener:
        actual = listener.getsockname()[1]
        address = f"http://127.0.0.1:{actual}"
        app = make_app(source, health, actual, lambda: server.should_exit)
        server = uvicorn.Server(uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=_GOODBYE_SECONDS,
        ))
        said(address)
        if browser and _has_browser():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.run(sockets=[listener])


def _listen(port: int | None) -> socket.socket:
    if port is None:
        with contextlib.suppress(TraceGuardError):
            return _listen(DEFAULT_PORT)
        port = 0
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise TraceGuardError(f"port {port} can't be used: {error}; --port names another one") from error
    return listener


def _has_browser() -> bool:
    """A text browser would take over the terminal, so a screen is required."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
