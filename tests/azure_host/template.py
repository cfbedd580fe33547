"""A process that has imported Microsoft's runtime and the Braintrust SDK, and forks workers.

A new process would spend most of a second on the same imports each time, and the tests kill many workers. The code
under test is not imported here, but in each worker after the fork.

Each connection to the socket is for a single worker. The first message has the worker's variables as JSON and its
standard streams as file descriptors. The answer is a line with the worker's process id and, after its end, a line with
its status.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys

import azure.functions  # noqa: F401 - the worker itself imports it before the app does
import azure_functions_runtime  # noqa: F401
import azure_functions_runtime_v1  # noqa: F401
import braintrust  # noqa: F401
import worker


def serve(path: str) -> None:
    """Fork a worker for each connection until standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    signal.set_wakeup_fd(mouth.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for each in (listener, ears, 0):
        selector.register(each, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _address = listener.accept()
                said, streams, _flags, _from = socket.recv_fds(connection, 1 << 20, 3)
                pid = os.fork()
                if not pid:
                    selector.close()
                    for each in (listener, ears, mouth, connection, *waiting.values()):
                        each.close()
                    become_worker(json.loads(said), streams)
                for stream in streams:
                    os.close(stream)
                waiting[pid] = connection
                connection.sendall(f"{pid}\n".encode())
            elif key.fileobj is ears:
                ears.recv(1024)
                reap(waiting)
            elif not os.read(0, 1024):
                return


def reap(waiting: dict[int, socket.socket]) -> None:
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        connection = waiting.pop(pid)
        try:
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        except OSError:
            print("nobody waits for worker", pid, file=sys.stderr)
        connection.close()


def become_worker(environment: dict[str, str], streams: list[int]) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    worker.main()
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
