"""Fails before it has a handler, in the way that WAY names."""

import os
import time

way = os.environ["WAY"]
print("starting")
if way == "raise":
    raise RuntimeError("no configuration")
if way == "exit":
    os._exit(7)
if way == "hang":
    time.sleep(60)
if way == "import":
    import a_module_that_is_not_there  # noqa: F401
