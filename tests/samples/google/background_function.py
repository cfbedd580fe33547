"""A background function of the first generation, for a Pub/Sub topic."""

import base64

from fake_model import complete

from trace_guard_gcf import guard_handler


@guard_handler
def main(data, context):
    complete(base64.b64decode(data["data"]).decode())
