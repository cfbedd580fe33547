"""The streaming example, started by its Dockerfile's command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from contract.suite import outcomes, parents
from gcf.services import Service, named, run
from support import REPOSITORY

from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "cloud_run_streaming"
ROOT = "POST /orders/{order}/ask"


def command() -> str:
    """The Dockerfile's command."""
    lines = (EXAMPLE / "Dockerfile").read_text().splitlines()
    words = shlex.split(next(line for line in lines if line.startswith("CMD ")))
    assert words[1] == "exec"
    return shlex.join(words[2:]).replace("'$PORT'", "$PORT")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with BraintrustServer(latency=0.05) as server, run((command(), str(EXAMPLE)), server) as sandbox:
        yield Service(sandbox, server)


def ask(service: Service, order: str, question: str) -> tuple[int, list[bytes], list[dict[str, object]]]:
    response, rows = service.ask(
        f"/orders/{order}/ask", "POST", headers={"Content-Type": "application/json"},
        body=json.dumps({"question": question}).encode(),
    )
    return response.status, [chunk.data for chunk in response.chunks], rows


def test_an_answer_is_streamed_and_traced(service: Service) -> None:
    """The answer arrives token by token, and its trace, which includes the stream, has arrived with the last token."""
    status, chunks, rows = ask(service, "1042", "Where is it?")
    assert (status, chunks) == (200, [b"Your ", b"parcel ", b"is ", b"with ", b"the ", b"carrier."])
    assert parents(rows) == {ROOT: None, "find_order": ROOT, "answer": ROOT}
    assert outcomes(rows)[ROOT] == {"outcome": "ok"}
    assert named(rows)["answer"]["output"] == "Your parcel is with the carrier."


def test_errors_of_the_service(service: Service) -> None:
    """An unknown order is no error, and a model that fails in the middle is an error."""
    status, _, rows = ask(service, "1043", "Where is it?")
    assert (status, outcomes(rows)[ROOT]) == (404, {"outcome": "ok"})
    ask(service, "1042", "Will it melt?")
    rows = service.server.span_rows()
    assert outcomes(rows)[ROOT] == {"outcome": "error"}
    assert "ConnectionError: the model is overloaded" in named(rows)[ROOT]["error"]
