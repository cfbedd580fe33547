"""A thread and a child process that always run. The thread counts in a file."""

import mmap
import os
import pathlib
import struct
import subprocess
import sys
import threading
import time

path = pathlib.Path(os.environ["TMPDIR"], "counter")
path.write_bytes(bytes(8))
with path.open("r+b") as file:
    counter = mmap.mmap(file.fileno(), 8)


def count():
    number = 0
    while True:
        number += 1
        struct.pack_into("Q", counter, 0, number)
        if number % 100 == 0:
            time.sleep(0.0001)


child = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
threading.Thread(target=count, daemon=True).start()


def counted():
    return struct.unpack_from("Q", counter, 0)[0]


def handler(event, context):
    before = counted()
    while counted() == before:
        time.sleep(0.001)
    return {"count": counted(), "child": child.pid}
