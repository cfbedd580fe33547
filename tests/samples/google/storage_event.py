"""A CloudEvent of Cloud Storage."""

import functions_framework
from fake_model import complete

from trace_guard_gcf import guard_handler


@functions_framework.cloud_event
@guard_handler
def main(event):
    name = event.data["name"]
    if name.endswith(".tmp"):
        raise ValueError(f"{name} is not finished")
    complete(name)
