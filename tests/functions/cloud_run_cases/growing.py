"""A server that always forks and starts threads, so that it is stopped at a bad moment."""

import http.server
import os
import signal
import threading
import time

LIVES_SECONDS = 0.01
MEMORY = b"x" * (100 << 20)  # many pages, which make a fork slow


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


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the children need not be waited for
threading.Thread(target=fork, daemon=True).start()
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
