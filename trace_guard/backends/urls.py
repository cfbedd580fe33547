"""Checks which URLs a request may be sent to."""

from __future__ import annotations

import urllib.parse

__all__ = ["is_web_url", "keeps_encryption"]

_LONGEST = 16 * 1024


def is_web_url(url: object) -> bool:
    """True for a URL of http or https with a host."""
    if not isinstance(url, str) or len(url) > _LONGEST or not url.isprintable() or " " in url:
        return False
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def keeps_encryption(origin: str, target: str) -> bool:
    """False if ``origin`` uses HTTPS and the URL that it leads to does not."""
    return urllib.parse.urlsplit(origin).scheme != "https" or urllib.parse.urlsplit(target).scheme == "https"
