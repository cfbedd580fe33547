"""The same service as a function."""

import json
import os

import functions_framework
from background import counted


@functions_framework.http
def count(request):
    found = {name: os.environ.get(name) for name in ("FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "K_SERVICE")}
    return json.dumps({"pid": os.getpid(), "count": counted(), **found})
