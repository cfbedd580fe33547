"""A server with a child process. At its end it writes whether the child got a signal too."""

import http.server
import os
import signal
import subprocess
import sys

CHILD = """
import signal, sys
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
print("ready", flush=True)
sys.stdin.readline()
print("told" if told else "not told", flush=True)
while True:
    signal.pause()
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"as long as the connection")


def end(*_):
    child.stdin.write("asked\n")
    child.stdin.flush()
    print(f"the child was {child.stdout.readline()}", flush=True)
    os._exit(7)


child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(f"the child is {child.pid}", flush=True)
signal.signal(signal.SIGTERM, end)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
