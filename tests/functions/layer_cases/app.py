"""An unguarded function that ends as its event names."""

import ctypes
import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time

import braintrust

READ = os.environ.get("_HANDLER")


@braintrust.traced
def tool(word):
    return word.upper()


def handler(event, context):
    with braintrust.start_span("work"):
        return DO[event["do"]](event)


def answer(event):
    return {"answer": tool("yes"), "handler": READ}


def fail(event):
    raise ValueError("no such order")


def sleep(event):
    time.sleep(60)


def spin(event):
    while True:
        pass


def digest(event):
    # Takes minutes, without the interpreter's lock.
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", (1 << 31) - 1)


def leave(event):
    sys.exit(3)


def no_json(event):
    return {1, 2}


def too_much(event):
    return "x" * (6 * 1024 * 1024 + 1000)


def hold_the_lock(event):
    # PyDLL calls functions with the interpreter's lock held, and no signal interrupts the wait for a mutex.
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def match(event):
    re.match(r"(a+)+b", "a" * 60)


def die(event):
    os._exit(7)


def kill(event):
    os.kill(os.getpid(), signal.SIGKILL)


def leave_children(event):
    """Die and leave a forked process and a program behind, in process groups of their own, which outlive the test's
    waits."""
    subprocess.Popen(["sleep", "4"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        time.sleep(4)
        os._exit(0)
    os._exit(7)


def leave_a_clone(event):
    """Die and leave a copy of the process behind, unknown to Python, which keeps all files open a moment longer."""
    parent = os.getpid()
    if ctypes.PyDLL(None).fork() == 0:
        os.setsid()
        while os.getppid() == parent:
            time.sleep(0.01)
        time.sleep(0.3)
        os._exit(0)
    os._exit(7)


def babble(event):
    """Send malformed messages to the listener in trace-guard's directory."""
    for words in (b"nonsense\n", b"[1]\n", b'{"kind": "hello"}\n', b'{"kind": "end", "journal": 5}\n', b"\xff\n", b""):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(os.environ["TRACE_GUARD_DIR"], "extension.sock"))
            connection.sendall(words)
    return "said"


def intrude(event):
    """Connect to the extension's socket as another user who can reach it. Returns whether the connection was closed."""
    directory = os.environ["TRACE_GUARD_DIR"]
    os.chdir(directory)  # the parent directories are closed to the other user
    os.chmod(directory, 0o755)
    os.chmod("extension.sock", 0o666)
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect("extension.sock")
            try:
                cut_off = connection.recv(1) == b""
            except ConnectionError:
                cut_off = True
        os._exit(0 if cut_off else 1)
    os.chdir("/")
    _, status = os.waitpid(child, 0)
    os.chmod(os.path.join(directory, "extension.sock"), 0o600)
    os.chmod(directory, 0o700)
    return status == 0


def crash(event):
    ctypes.string_at(0)


def run_out_of_memory(event):
    with open("/proc/self/statm") as pages:
        limit = int(pages.read().split()[0]) * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        held = []
        while True:
            held.append(bytearray(1 << 20))
    except MemoryError:
        os.abort()  # like native code whose allocation fails


def overwhelm(event):
    # The kernel's OOM killer chooses this process first when the group is full.
    with open(event["group"] + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
    held = []
    while True:
        held.append(os.urandom(1 << 22))


DO = {
    function.__name__: function
    for function in (
        answer, fail, sleep, spin, digest, hold_the_lock, match, leave, no_json, too_much, die, kill, leave_children,
        leave_a_clone, babble, intrude, crash, run_out_of_memory, overwhelm,
    )
}
