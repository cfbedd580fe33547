"""An HTTP function that streams the model's answer."""

import functions_framework
from fake_model import stream

from trace_guard_gcf import guard_handler


@functions_framework.http
@guard_handler
def main(request):
    def events():
        for chunk in stream(request.args.get("prompt", "nothing")):
            yield f"data: {chunk}\n\n"

    return events(), {"content-type": "text/event-stream"}
