"""Removes credentials that are recognisable by their shape: keys of known providers, JSON web tokens, private keys in
PEM, and what follows ``Bearer`` or ``Basic``.

Every pattern starts at a word boundary and has bounded parts, so the time is linear in the length of the text.
"""

from __future__ import annotations

import binascii
import re

from .compile_later import compile_later

__all__ = ["REDACTED", "redact_keys", "redact_schemes"]

REDACTED = "[redacted]"

# How a key begins, and the pattern of the rest.
_KEYS = {
    "sk-": r"[\w-]{8,}", "sk_live_": r"\w{8,}", "sk_test_": r"\w{8,}", "rk_live_": r"\w{8,}", "rk_test_": r"\w{8,}",
    "whsec_": r"\w{8,}", "ghp_": r"\w{16,}", "gho_": r"\w{16,}", "ghs_": r"\w{16,}", "ghr_": r"\w{16,}",
    "ghu_": r"\w{16,}", "github_pat_": r"\w{16,}", "glpat-": r"[\w-]{16,}", "AKIA": r"[A-Z\d]{12,}",
    "ASIA": r"[A-Z\d]{12,}", "xox": r"[a-z]-[\w-]{8,}", "xapp-": r"[\w-]{8,}", "AIza": r"[\w-]{20,}",
    "ya29.": r"[\w-]{16,}", "hf_": r"\w{16,}", "npm_": r"\w{16,}", "pypi-": r"[\w-]{16,}", "bt-st-": r"[\w-]{8,}",
    "gsk_": r"\w{16,}", "xai-": r"[\w-]{16,}", "pplx-": r"\w{16,}", "nvapi-": r"[\w-]{16,}", "lsv2_": r"\w{16,}",
    "hvs.": r"[\w-]{16,}", "dapi": r"[0-9a-f]{32}", "SG.": r"[\w-]{16,}\.[\w-]{16,}",
    "eyJ": r"[\w-]{6,}\.[\w-]{4,}\.[\w-]*",
}
_KEY = compile_later(
    r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))(?:"
    + "|".join(f"{re.escape(beginning)}{rest}" for beginning, rest in _KEYS.items())
    + r")|(?P<kept>-----BEGIN[A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----)[A-Za-z0-9+/=\s\\]{16,}"
)
_SIGNS = (*_KEYS, "-----BEGIN")


def redact_keys(text: str) -> str:
    """The text without the keys of known providers, JSON web tokens and private keys."""
    if not any(sign in text for sign in _SIGNS):
        return text
    return _KEY.sub(lambda match: f"{match['kept'] or ''}{REDACTED}", text)


_SCHEME = compile_later(r"\b(?P<before>(?P<scheme>bearer|basic)(?:[ \t]{1,4}|%20|\+))(?P<value>[\w.~+/=%-]{6,})", re.I)
# Messages that quote a header's value may have any character within the quotes.
_QUOTED_SCHEME = compile_later(r"""(?P<before>(?P<quote>["'`])(?:Bearer|Basic)[ \t]{1,4})[^"'`]+(?=(?P=quote))""", re.I)
_PROSE = compile_later(r"auth|token|realm|scheme|header|error|scope|credential|method|challenge|is\b|or\b", re.I)


def redact_schemes(text: str) -> str:
    """The text without the credentials after ``Bearer`` and ``Basic``."""
    return _SCHEME.sub(_redact_scheme, _QUOTED_SCHEME.sub(rf"\g<before>{REDACTED}", text))


def _redact_scheme(match: re.Match[str]) -> str:
    value = match["value"]
    if match["scheme"].lower() == "bearer":
        is_credential = not _PROSE.match(value)
    else:
        try:
            is_credential = b":" in binascii.a2b_base64(value.rstrip("=").rstrip(".") + "==")
        except ValueError:
            is_credential = False
    return match["before"] + REDACTED if is_credential else match[0]
