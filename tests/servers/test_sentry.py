"""Sentry's SDK beside the guard."""

from __future__ import annotations

from pathlib import Path

from servers.installation import PYTHON, needs_servers
from support import Program, environment

from trace_guard.testing import BraintrustServer

pytestmark = needs_servers


def test_each_has_what_it_has_alone(server: BraintrustServer, directory: Path) -> None:
    """Sentry gets the user's exception once, and its transaction has the program's requests and none of ours."""
    with Program("""
    import http.client, urllib.parse
    import braintrust, sentry_sdk
    from sentry_sdk.transport import Transport
    from trace_guard import Guard

    sent = []

    class Sink(Transport):
        def capture_envelope(self, envelope):
            sent.extend(item.payload.json for item in envelope.items if item.payload.json)

    sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", transport=Sink, traces_sample_rate=1.0)
    guard = Guard(flush="before-response")

    @guard.wrap
    def handler(event):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["BRAINTRUST_API_URL"]).netloc)
        connection.request("GET", "/ping")
        connection.getresponse().read()
        with braintrust.start_span("step"):
            raise LookupError("nothing")

    error = LookupError
    with sentry_sdk.start_transaction(name="job"):
        try:
            handler({})
        except LookupError as raised:
            sentry_sdk.capture_exception(raised)
    sentry_sdk.flush()
    errors = [each for each in sent if each.get("exception")]
    (transaction,) = [each for each in sent if each.get("type") == "transaction"]
    crumbs = [crumb["data"].get("url", "") for each in sent for crumb in each.get("breadcrumbs", {}).get("values", [])
              if crumb.get("type") == "http"]
    said = [span["description"] for span in transaction["spans"]] + crumbs
    frames = errors[0]["exception"]["values"][-1]["stacktrace"]["frames"]
    say(len(errors), frames[-1]["function"], *(any(path in str(each) for each in said) for path in ("/ping", "/logs3")))
    """, environment(server, directory), python=PYTHON) as program:
        program.expects(1, "handler", True, False)
        program.ends_well()
    (step, root) = sorted(server.span_rows(), key=lambda row: row["span_attributes"]["name"] != "step")
    assert (root["span_attributes"]["name"], root["metadata"]["trace_guard"]["outcome"]) == ("handler", "error")
    assert all("LookupError: nothing" in row["error"] for row in (step, root))
