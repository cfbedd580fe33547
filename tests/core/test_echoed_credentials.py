"""A server or proxy that gives back what it was sent puts no credential into logs, errors, status or files."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import braintrust
import pytest
from fixtures import MakeGuard
from support import Program, environment, settings_for

from trace_guard import Deadline, Guard, Settings
from trace_guard.backends.braintrust import BraintrustBackend
from trace_guard.backends.project_ids import ProjectIds
from trace_guard.cli import main
from trace_guard.delivery.dead_letters import read_dead_letters
from trace_guard.errors import BackendUnauthorized
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer, Fault

KEY = "planted-key-0123456789"


class _Echo(http.server.BaseHTTPRequestHandler):
    status = 500

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        body = f"{sent}\r\nX-Proxy-Authorization: Basic planted\r\n\x1b[31m{json.dumps(dict(self.headers))}".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def echoing(status: int) -> Iterator[str]:
    """The URL of a server that answers with the headers that it was sent."""
    handler = type("Echo", (_Echo,), {"status": status})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://me:planted@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def files_with(text: bytes, directory: Path) -> list[str]:
    """The files that hold a text."""
    return [str(path) for path in directory.rglob("*") if path.is_file() and text in path.read_bytes()]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500])
def test_a_server_that_echoes_headers(
    status: int, make_guard: MakeGuard, directory: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever status it answers with, and with credentials in its URL, no log line, file, error or output has them."""
    monkeypatch.setenv("BRAINTRUST_API_KEY", KEY)
    with echoing(status) as url:
        monkeypatch.setenv("BRAINTRUST_API_URL", url)
        guard = make_guard(api_key=KEY, api_url=url, app_url=url, flush_timeout=1.0)
        with guard.invocation("root") as invocation, braintrust.start_span(name="step"):
            pass
        guard.close(timeout=1)
        assert invocation.delivery is not None
        assert str(status) in str(invocation.delivery.error) or status == 500
        shown = [str(invocation.delivery), str(read_status(guard.settings).to_json()), caplog.text]
        for words in (["status"], ["status", "--json"], ["recover", "--timeout", "1"]):
            with contextlib.suppress(SystemExit):
                main([*words, "--dir", str(directory)])
            shown += capsys.readouterr()
    logged = [logging.Formatter().format(record) for record in caplog.records if record.name == "trace_guard"]
    assert not [text for text in [*shown, *logged] if "planted" in text]
    assert files_with(b"planted", directory) == []
    assert all("\x1b" not in str(letter["error"]) for letter in read_dead_letters(directory))
    if status == 400:
        assert list(read_dead_letters(directory))


def test_a_journal_is_found_again_by_a_url_with_a_user(server: BraintrustServer, directory: Path) -> None:
    """A journal that was written for a URL with credentials is delivered by the next process with the same URL."""
    def settings() -> Settings:
        url = server.url.replace("://", "://me:planted@")
        return settings_for(server, directory, api_key=KEY, api_url=url, app_url=url, flush_timeout=0.3)

    server.fail("/logs3", Fault.status(503))
    guard = Guard(settings())
    with guard.invocation("root"):
        pass
    guard.close(timeout=0.2)
    assert not server.span_rows()
    assert files_with(b"planted", directory) == []
    server.heal()
    from trace_guard.runtime.recover import recover

    assert recover(settings(), timeout=10).pending_rows == 0
    assert [row["span_attributes"]["name"] for row in server.span_rows()] == ["root"]


@pytest.mark.parametrize("key", ["planted…0123456789", "planted\ud8000123456789", "planted\n0123456789"])
def test_a_key_of_a_login_that_can_not_be_sent(key: str, directory: Path) -> None:
    """A key that a login brings at run time and that no header can carry is refused in words that do not show it."""
    settings = settings_for(None, directory).with_login(key, "http://127.0.0.1:9", None)
    assert len(str(settings.destination["key_fingerprint"])) == 16
    with pytest.raises(BackendUnauthorized, match="the API key is not accepted: it takes") as error:
        BraintrustBackend(settings, ProjectIds()).send([b"{}"], Deadline.after(1))
    assert "planted" not in repr(error.value)


def test_a_login_with_such_a_key_does_not_reach_user_code(server: BraintrustServer, directory: Path) -> None:
    """User code goes on after such a login, and the rows are kept; what is logged does not show the key."""
    with Program("""
    import braintrust
    from trace_guard import Guard
    guard = Guard(linger=60)
    with guard.invocation("before"):
        pass
    braintrust.login(api_key="planted\\u20260123456789", force_login=True)
    with guard.invocation("root") as invocation:
        pass
    say(invocation.delivery.verdict.value, invocation.delivery.error)
    guard.close(1)
    """, environment(server, directory)) as program:
        assert program.hears().startswith("spooled the API key is not accepted: it takes a Braintrust key")
        program.ends_well()
        assert "the API key is not accepted" in program.stderr
        assert "planted" not in program.stderr
    assert files_with(b"planted", directory) == []


def test_a_name_can_not_steer_the_terminal(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and errors of spans are shown without control characters, and not read as markup."""
    guard = Guard(Settings.from_env({}, backend="local", dir=directory, project="p"))
    name = "\x1b]0;title\x07[bold red]x[/]\u202e\nforged"
    with contextlib.suppress(ValueError), guard.invocation(name) as invocation:
        raise ValueError("\x1b[2J https://me:planted@host")
    guard.close()
    for words in (["traces"], ["show", invocation.span.root_span_id], ["show", "\x1b[2J"]):
        main([*words, "--dir", str(directory)])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        assert "planted" not in out + err
        assert "\nforged" not in out + err
        assert "[bold red]x[/]" in out or words[-1].startswith("\x1b")


