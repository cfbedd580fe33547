"""A server that is always at forking and starting threads, so that every instant to be stopped at is a bad one."""

import http.server
import os
import signal
import threading
import time

LIVES_SECONDS = 0.01
MEMORY = b"x" * (100 << 20)  # the pages of which a fork takes its time over


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def fork():
    while True:
        if os.fork() == 0:
            threading.Thread(target=time.sleep, args=(LIVES_SECONDS,)).start()
            time.sleep(LIVES_SECONDS)
            os._exit(0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for the children
threading.Thread(target=fork, daemon=True).start()
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
