"""Secrets within text."""

from __future__ import annotations

import time

import pytest

from trace_guard.redaction.shapes import REDACTED
from trace_guard.redaction.text_redactor import TextRedactor

S = "s3cr3tX"
BY_KEY = [
    (f"token={S}&page=2", f"token={REDACTED}&page=2"),
    (f"/path?x=1&API-Key={S}", f"/path?x=1&API-Key={REDACTED}"),
    (f"user[password]={S}&n=1", f"user[password]={REDACTED}&n=1"),
    (f"user%5Bpassword%5D={S}&n=1", f"user%5Bpassword%5D={REDACTED}&n=1"),
    (f"access_token%3D{S}%26n%3D1", f"access_token={REDACTED}&n=1"),
    (f"payload=%7B%22password%22%3A%22{S}%22%7D&n=1", f'payload={{"password":{REDACTED}}}&n=1'),
    (f"x=%2574oken%253D{S}", f"x=token={REDACTED}"),
    (f'{{"password": "{S}', f'{{"password": {REDACTED}'),
    (f'"password": "a \\" {S}", "n": 1', f'"password": {REDACTED}, "n": 1'),
    (f'{{\\"password\\": \\"{S}\\", \\"n\\": 1}}', f'{{\\"password\\": {REDACTED}, \\"n\\": 1}}'),
    (f"password: [1, '}}]', '{S}'] and", f"password: {REDACTED} and"),
    (f'"credentials": {{"a": "}}", "b": "{S}"}}, "n": 1', f'"credentials": {REDACTED}, "n": 1'),
    (f"Authorization: Bearer {S} x\r\nHost: a", f"Authorization: {REDACTED}\r\nHost: a"),
    (f"Set-Cookie: a=b; c={S}\nx: y", f"Set-Cookie: {REDACTED}\nx: y"),
    (f"x-api-key: Key {S} x", f"x-api-key: {REDACTED} x"),
    (f"('Authorization', 'Bearer {S}')", f"('Authorization', {REDACTED})"),
    (f'[["Cookie", "{S}"], ["a", "b"]]', f'[["Cookie", {REDACTED}], ["a", "b"]]'),
    (f"{{'name': 'Authorization', 'value': '{S}'}}", f"{{'name': 'Authorization', 'value': {REDACTED}}}"),
    (f'{{\\"key\\": \\"token\\", \\"value\\": \\"{S}\\"}}', f'{{\\"key\\": \\"token\\", \\"value\\": {REDACTED}}}'),
    (f"login failed: password={S}", f"login failed: password={REDACTED}"),
    (f"invalid token '{S}' given", f"invalid token {REDACTED} given"),
    (f"Incorrect API key provided: {S} (401)", f"Incorrect API key provided: {REDACTED} (401)"),
    (f"ValueError({{'password': '{S}', 'n': 1}})", f"ValueError({{'password': {REDACTED}, 'n': 1}})"),
    (f"Query(text='a', accessToken='{S}', n=1)", f"Query(text='a', accessToken={REDACTED}, n=1)"),
    (f"secret => '{S}'", f"secret => {REDACTED}"),
    (f"AccountName=a;AccountKey={S}==;E=1", f"AccountName=a;AccountKey={REDACTED};E=1"),
    (f"<a><w:Password T='x'>{S}</w:Password>b</a>", f"<a><w:Password T='x'>{REDACTED}</w:Password>b</a>"),
    (f"<password><![CDATA[{S}]]></password>", f"<password>{REDACTED}</password>"),
    (f"<token>{S}", f"<token>{REDACTED}"),
    ("token:" + "\\" * 20 + S, f"token:{REDACTED}"),
]
BY_SHAPE = [
    (f"got Bearer {S}", f"got Bearer {REDACTED}"),
    (f"eyJhbGciOiJI.eyJzdWIiOi.{S}", REDACTED),
    (f"postgres://me:{S}@host/db", f"postgres://me:{REDACTED}@host/db"),
    (f"https://me:{S}@host ssh://git@host", f"https://{REDACTED}@host ssh://git@host"),
    (f"https://{S}@host", f"https://{REDACTED}@host"),
    (f"sk-proj-{S}12 AKIAS3CRETS3CRETS3C", f"{REDACTED} {REDACTED}"),
    (f"-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n{S}\n-----END", f"-----BEGIN PRIVATE KEY-----{REDACTED}-----END"),
]
ORDINARY = [
    "", "nothing to hide", "max_tokens=5, token_count: 7", "Tokens: many. The tokenizer: good.", "100% = all",
    "https://host/path?a=1#b", "a: b, c: d", "Bearer authentication is used", "eyJ", "the author: Ann",
    "'token', 'password'", "x@y.z",
]


@pytest.mark.parametrize(("text", "expected"), BY_KEY + BY_SHAPE)
def test_a_secret_in_a_text_is_replaced(text: str, expected: str) -> None:
    """A secret that a key names, or that is known by its shape, is replaced, and all else stays."""
    assert TextRedactor().redact(text) == expected
    assert TextRedactor().redact(expected) == expected


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_stays(text: str) -> None:
    """A text without secrets is returned as it is."""
    assert TextRedactor().redact(text) == text


def test_keys_of_queries() -> None:
    """A key can be secret as a parameter of a URL only."""
    redactor = TextRedactor(query_keys=("code",))
    text = f"https://h/?a=1&code={S}== https://h/?code={S} code=404 \\u0026code={S}"
    expected = f"https://h/?a=1&code={REDACTED} https://h/?code={REDACTED} code=404 \\u0026code={REDACTED}"
    assert redactor.redact(text) == expected


HOSTILE = {
    "backslashes": ("token:", "\\"), "colons": ("", ":"), "keys": ("", "token="), "open quotes": ("", "token='"),
    "open brackets": ("", "token=["), "percents": ("", "%25"), "nested percents": ("%", "25"),
    "JWT": ("", "eyJaaaaaa."),
    "beginnings of JWT": ("", "eyJ"), "spaces after": ("token:", " "), "spaces before": ("token", " "),
    "PEM": ("", "-----BEGIN PRIVATE KEY-----"), "URLs": ("", "a://"), "users": ("", "a://a:a@"), "at": ("a://", "a@"),
    "Bearer": ("", "Bearer "), "Bearer words": ("Bearer ", "a"), "pairs": ("", '["a",'), "escaped": ('token="', '\\"'),
    "ticks": ("", " `"), "quotes": ("", '"'), "word": ("", "a"), "values": ("", "k="), "dots": ("", "a.b:"),
    "sentence": ("", "api key "), "encoded": ("", "%3A"), "encoded quotes": ("", "token%22%3A"), "sk": ("", "sk-"),
    "line breaks": ("cookie:", "\r\n"), "deep": ('"token":', '{"a":'), "brackets in strings": ("token:[", '"]"'),
    "names": ("", 'name:token,value:'), "values of names": ("name: token", ",value:"),
    "elements": ("", "<token>"), "open elements": ("", "<token"), "CDATA": ("", "<token><![CDATA["),
    "element names": ("<", "a"), "lines of elements": ("", "<token>\n"),
    "ampersands": ("", "\\u0026code="),
}


@pytest.mark.parametrize(("start", "part"), HOSTILE.values(), ids=HOSTILE.keys())
def test_the_search_is_linear(start: str, part: str) -> None:
    """Four times as much of a hostile text takes about four times as long, whatever it is made of."""

    def seconds(size: int) -> float:
        text = (start + part * (size // len(part) + 1))[:size]
        redactor, best = TextRedactor(), 1e9
        for _ in range(3):
            began = time.thread_time()
            redactor.redact(text)
            best = min(best, time.thread_time() - began)
        return best

    small, large = seconds(8192), seconds(32768)
    assert large < 8 * small + 0.005


def test_the_search_can_be_stopped() -> None:
    """A caller that has no time left gets nothing instead of a text that is searched in part."""
    steps: list[int] = []
    text = "token:b " * 1000
    assert TextRedactor().redact(text, lambda count: not steps.append(count) and len(steps) < 3) is None
    assert sum(steps) < 300
