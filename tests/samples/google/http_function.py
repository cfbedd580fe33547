"""An HTTP function that answers with JSON and a status of its own."""

import functions_framework
from fake_model import complete

from trace_guard_gcf import guard_handler


@functions_framework.http
@guard_handler
def main(request):
    fields = request.get_json(silent=True) or {}
    if "prompt" not in fields:
        return {"error": "no prompt"}, 400
    return {"answer": complete(fields["prompt"])}, 201, {"x-model": "fake"}
