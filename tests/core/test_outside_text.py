"""Text from outside is made fit to be logged: without credentials, on one line, bounded, in time that grows with it."""

from __future__ import annotations

import base64
import json
import logging
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from trace_guard.contain import forget, logger, report, warn_once
from trace_guard.errors import BackendRefused, BackendUnavailable, SettingsError, TraceGuardError
from trace_guard.outcome import Delivery
from trace_guard.redaction.known_keys import remember_key
from trace_guard.redaction.outside_text import cut_middle, printable, printable_lines, without_credentials
from trace_guard.redaction.shapes import REDACTED
from trace_guard.redaction.urls import strip_userinfo

KEY = "planted/key+é-0123456789"


@pytest.fixture(autouse=True)
def no_faults() -> None:
    """Faults are logged here on purpose."""


@pytest.fixture(autouse=True)
def remembered() -> Iterator[None]:
    remember_key(KEY)
    forget()
    yield
    forget()


@pytest.mark.parametrize("text", [
    "Authorization: Bearer s3cret",
    "Authorization: Custom s3cret s3cret\r\nHost: h",
    "proxy-authorization: Basic s3cret",
    'Proxy-Authorization: Digest username="me", response="s3cret", uri="/"',
    "Authorization: AWS4-HMAC-SHA256 Credential=s3cret/20260101, SignedHeaders=host, Signature=s3cret",
    "{'Authorization': 'Bearer s3cret', 'Host': 'h'}",
    "[('Authorization', 'Bearer s3cret')]",
    '[["authorization", "Bearer s3cret"]]',
    '{"headers":{"authorization":"Bearer s3cret"}}',
    '{"message":"{\\"authorization\\": \\"Bearer s3cret\\"}"}',
    "authorization: ['Bearer s3cret', 's3cret']",
    "b'GET / HTTP/1.1\\r\\nAuthorization: Custom s3cret\\r\\nHost: h\\r\\n'",
    "<td>Authorization</td><td>Bearer s3cret</td>",
    "<b>Authorization:</b> Custom s3cret<br>",
    "&quot;Authorization&quot;: &quot;Bearer s3cret&quot;",
    "authorization%3A%20Bearer%20s3cret",
    "HTTP_AUTHORIZATION=Bearer s3cret",
    "{Authorization=[Bearer s3cret], Host=[h]}",
    "Cookie: a=s3cret; b=s3cret",
    "x-api-key: s3cret",
    "AccessToken: s3cret",
    "ClientSecret: s3cret",
    "ApiKey: s3cret",
    '{"name":"Authorization","value":"s3cret"}',
    '{\\"name\\": \\"x-api-key\\", \\"value\\": \\"s3cret\\"}',
    '{"type":"password","value":"s3cret"}',
    '["Host","h","Authorization","s3cret"]',
    "<wsse:Password Type='x'>s3cret</wsse:Password>",
    "<password><![CDATA[s3cret]]></password>",
    "<password><![CDATA[a</b>s3cret]]></password>",
    "<a><client-secret>s3cret<x/></client-secret><b>1</b></a>",
    "<password>s3cret",
    "name: Authorization\n  value: s3cret",
    "key: Authorization: Custom s3cret",
    "Authorization :s3cret",
    "password : s3cret",
    "Authorization:\r\n s3cret",
    "Authorization: Custom\r\n\ts3cret\r\nHost: h",
    "b'Authorization:\\r\\n s3cret'",
    'Authorization: Custom "s3cret"',
    "Authorization: Custom 's3cret'",
    '"Authorization: Custom \\"s3cret\\""',
    "authorization: bearer\ns3cret",
    "url?access_token=s3cret&n=1",
    "sent Bearer s3cret-token to the server",
    'Invalid header value: "Bearer s3\ncret"',
    "Basic " + base64.b64encode(b"me:s3cret").decode(),
    "https://me:s3cret@host/path",
    "http://s3cret@host",
    "postgres://me:s3@cret/s3cret@host/db",
    "Failed to parse: me:s3cret@host:80",
    "https%3A%2F%2Fme%3As3cret%40host",
    "the key sk-s3cret-0123456789 is not known",
    "the key bt-st-s3cret0123456789 is not known",
])
def test_credentials_are_removed(text: str) -> None:
    """A credential is removed from every form in which a server, a proxy or an exception gives it back."""
    shown = printable(text)
    assert not any(secret in shown for secret in ("s3cret", "s3@cret", "cret@", "bWU6czNjcmV0"))
    assert "s3" not in shown or REDACTED in shown
    assert printable(shown) == shown


@pytest.mark.parametrize("form", [
    str, repr, ascii, json.dumps, lambda key: repr(key.encode()), urllib.parse.quote, urllib.parse.quote_plus,
    lambda key: urllib.parse.quote(key, safe=""), lambda key: key.encode().decode("latin-1"),
    *(
        lambda key, before=before, encode=encode: encode(f"{before}{key}{before}".encode()).decode()
        for before in ("", "a", "ab", "user:") for encode in (base64.b64encode, base64.urlsafe_b64encode)
    ),
    lambda key: repr(UnicodeEncodeError("latin-1", key, 0, 1, "no")),
])
def test_the_configured_key_is_removed(form: Callable[[str], str]) -> None:
    """The configured key is removed as it is, and escaped or encoded in any of the usual ways."""
    shown = printable(f"rejected: {form(KEY)} as it is wrong")
    assert REDACTED in shown
    assert "planted" not in shown
    assert "0123456789" not in shown


@pytest.mark.parametrize("text", [
    "127.0.0.1:80 answered 500: upstream connect error or disconnect/reset before headers",
    "Bearer token is invalid", "401 Unauthorized: check BRAINTRUST_API_KEY", "ExpiredToken: The security token expired",
    "api_key= is not accepted: it takes a key", "max_tokens: 7, token_count=8", "https://host:8080/a@b", "mail me@host",
    "<a><name>x</name><token/><max_tokens>5</max_tokens></a>", "1 < 2 > 0",
    "/etc/passwd: Permission denied", "InvalidToken: The token is wrong", "InvalidAccessKeyId: There is no such key",
    "SecretError: no such thing", '{"name":"Accept","value":"x"}', "name: a, value: b",
    "Basic constraints of the certificate", "http://[::1]:80/", "/var/task/app.py:12", "image:tag@sha256:abcdef",
])
def test_plain_messages_stay(text: str) -> None:
    """A message without credentials is logged as it is."""
    assert printable(text) == text


@pytest.mark.parametrize(("text", "expected"), [
    ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"), ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
    ("\u202egnp.exe\u2066\u200b", r"\u202egnp.exe\u2066\u200b"), ("a\u2028b\u2029c\x85", r"a\u2028b\u2029c\x85"),
    ("\ud800", r"\ud800"), ("\U000e0001", r"\U000e0001"), ("naïve ✓ 日本", "naïve ✓ 日本"),
])
def test_what_is_not_printable_is_escaped(text: str, expected: str) -> None:
    """Line breaks, control characters and what changes the direction of text can neither forge a line nor steer a
    terminal."""
    assert printable(text) == expected
    assert printable_lines(f"{text}\nb") == f"{expected}\nb".replace(r"\n", "\n").replace(r"\t", "\t")


def test_texts_are_bounded() -> None:
    """A long text keeps its beginning and its end, and says how much was cut."""
    assert cut_middle("a" * 10, 10) == "a" * 10
    cut = printable("begins " + "x" * 1_000_000 + " ends", 200)
    assert cut.startswith("begins xxx")
    assert "characters cut by trace-guard" in cut
    assert len(cut) < 300


def test_no_credential_is_cut_in_two() -> None:
    """A credential that lies across any bound of a text is not shown in part."""
    for before in range(65_500, 65_545, 3):
        for text in ("x" * (before - 1) + f" {KEY}", "x " * (before // 2) + "https://me:planted@host/"):
            shown = printable(text, 70_000)
            assert "plant" not in shown


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not now")


def test_it_never_raises() -> None:
    """Whatever is to be shown, something is shown."""
    assert printable(Silent()) == "<RuntimeError when read>"
    assert printable(None) == "None"


@pytest.mark.parametrize("piece", [
    "a=", "a.", "a://", "s://b@", "@", ":@", "token=", 'token="', "token='", '\\"token\\":\\"', "token=\\", "'token=",
    "Authorization: ", 'authorization="', "authorization: [", "eyJabcdefgh.", "%22", "%3A%2F%2F", "a:", "<b>", "a</b>",
    "sk-", "bearer ", "'bearer ", "name:token,value:", "<token>", "<token>a</", "<a ", "<token><![CDATA[", "<a:",
    "<token>\n", "<token><![CDATA[</",
    "authorization:bearer\n", "token :", 'cookie: a "', "cookie:\n ", "basic a", "token = ", '"token","', "token: [",
    "A", " ", "\\" * 16 + '"', "\n", "\x1b",
])
def test_the_time_grows_with_the_text(piece: str) -> None:
    """Whatever a text is made up of, four times as much takes about four times as long."""
    def seconds(size: int) -> float:
        text, best = (piece * size)[:size], 9.0
        for _ in range(3):
            before = time.thread_time()
            without_credentials(text)
            best = min(best, time.thread_time() - before)
        return best

    assert seconds(80_000) < 10 * seconds(20_000) + 0.05


class Text(logging.Handler):
    """What a handler can get hold of: the formatted record, and the exception that comes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter("%(message)s").format(record))
        self.seen.append(f"{record.msg!r} {record.args!r} {record.exc_text}")
        if record.exc_info:
            self.seen += ["".join(traceback.format_exception(*record.exc_info)), repr(record.exc_info[1])]


@pytest.fixture
def handler() -> Iterator[Text]:
    handler = Text()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def failed() -> BaseException:
    try:
        try:
            raise KeyError(f"Bearer {KEY}")
        except KeyError as error:
            raise ValueError(f"no\nCRITICAL forged {KEY}", KEY) from error
    except ValueError as error:
        return error


def test_log_records_are_safe(handler: Text) -> None:
    """No handler of our logger gets a credential or a line of somebody else's making: not by the message, its
    arguments, the exception, or the causes of that."""
    report("send rows", failed())
    warn_once("a", "%s and %r", failed(), {"Authorization": KEY})
    logger.debug("%s", Silent())
    logger.warning("not %d", KEY)
    assert handler.seen
    assert not any("planted" in seen or "\nCRITICAL" in seen for seen in handler.seen)
    assert handler.seen[0].startswith("trace-guard: could not send rows; your code is not affected\nTraceback (most r")
    assert "KeyError: 'Bearer [redacted]'" in handler.seen[0]
    assert "in failed\n" in handler.seen[0]


def test_log_records_of_plain_faults_stay(handler: Text, caplog: pytest.LogCaptureFixture) -> None:
    """A fault whose text is harmless is logged as it is, and found with the record."""
    fault = ZeroDivisionError("division by zero")
    report("count", fault)
    assert caplog.records[-1].exc_info == (ZeroDivisionError, fault, None)


@pytest.mark.parametrize("make", [
    TraceGuardError, SettingsError, BackendUnavailable, lambda text: BackendRefused(text, status=400),
    lambda text: Delivery(Delivery.SPOOLED, error=text).error,
])
def test_messages_of_errors_are_safe(make: Callable[[str], object]) -> None:
    """Each of our errors, and the error of a delivery, is one bounded line without credentials."""
    text = str(make(f"answered 500: Authorization: Bearer {KEY}\nforged " + "x" * 100_000))
    assert "planted" not in text
    assert "\n" not in text
    assert len(text) < 3000


@pytest.mark.parametrize(("url", "expected"), [
    ("https://me:pass@host:8080/path?a=b@c", "https://host:8080/path?a=b@c"), ("https://token@host", "https://host"),
    ("https://me:p@ss@host/", "https://host/"), ("https://host/a@b", "https://host/a@b"), ("host/a@b", "host/a@b"),
])
def test_urls_lose_their_user(url: str, expected: str) -> None:
    """User and password are taken out of a URL, and nothing else."""
    assert strip_userinfo(url) == expected
