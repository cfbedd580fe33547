"""``trace-guard serve``: a simulated Braintrust on the local store."""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import threading

from ..backends.local import LocalStore
from ..errors import SettingsError
from ..journal.directory import STORE_NAME, examine, locate
from ..settings import Settings
from .tables import say

__all__ = ["serve_store"]


def serve_store(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        SettingsError: the port is taken.
    """
    from ..testing.braintrust_server import BraintrustServer
    from ..testing.local_row_store import LocalRowStore

    local = LocalStore(locate(settings.dir) / STORE_NAME, functools.partial(examine, settings.dir))
    try:
        server = BraintrustServer(port=arguments.port, store=LocalRowStore(local), kept_requests=0)
    except OSError as error:
        raise SettingsError(f"port {arguments.port} can't be used: {error.strerror}; choose another --port") from error
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    with server:
        say(f"Braintrust is simulated at {server.url}, on the local store {local.path}", style="bold")
        for name in ("BRAINTRUST_API_URL", "BRAINTRUST_APP_URL"):
            say(f"export {name}={server.url}")
        say("export BRAINTRUST_API_KEY=local   # any key is accepted")
        say("`trace-guard traces` lists what arrives. Ctrl-C stops.")
        sys.stdout.flush()
        stop.wait()
    local.close()
    for number, handler in before.items():
        signal.signal(number, handler)
    return 0
