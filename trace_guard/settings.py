"""Settings: a keyword overrides an environment variable, which overrides the default. An empty variable counts as
unset."""

from __future__ import annotations

import inspect
import math
import os
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from .contain import warn_once
from .deadline import seconds_of
from .errors import SettingsError
from .outcome import FlushPolicy
from .redaction.known_keys import remember_key
from .redaction.secret_keys import Redactor
from .redaction.urls import strip_userinfo

__all__ = ["PARENT_VARIABLE", "Capture", "Settings"]

T = TypeVar("T")

Capture: TypeAlias = bool | Callable[[Any], Any]
"""Whether a value is logged, or a function that gets the value and returns what is logged in its place."""

DEFAULT_API_URL = "https://api.braintrust.dev"
PARENT_VARIABLE = "TRACE_GUARD_PARENT"
"""Holds the exported span of a parent process, such as a supervisor. The outermost invocations of this process become
children of that span."""
DEFAULT_APP_URL = "https://www.braintrust.dev"

# The variables in which platforms name the function, service or job.
_FUNCTION_NAMES = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "K_SERVICE",
    "FUNCTION_TARGET",
    "WEBSITE_SITE_NAME",
    "CLOUD_RUN_JOB",
    "CONTAINER_APP_JOB_NAME",
)
# Platforms where only the temporary directory is writable, or where no directory outlives the instance.
_TEMPORARY_ONLY = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "FUNCTIONS_WORKER_RUNTIME", "CLOUD_RUN_JOB")
# Platforms that may give the process no CPU after a response. Agent hosts: Azure AI Foundry, Bedrock AgentCore.
_FREEZING = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "FUNCTIONS_WORKER_RUNTIME", "FOUNDRY_HOSTING_ENVIRONMENT")
_FREEZING_RESOURCE = "bedrock-agentcore"
# Other platforms whose instances lose their disk.
_CONTAINERS = (
    "AWS_BATCH_JOB_ID", "CONTAINER_APP_JOB_NAME", "CONTAINER_APP_NAME", "ECS_CONTAINER_METADATA_URI_V4",
    "KUBERNETES_SERVICE_HOST",
)


def _setting(
    default: Any, variable: str, parse: Callable[[str], Any], accepts: str, *aliases: str
) -> Any:
    return field(
        default=default,
        metadata={"variables": (variable, *aliases), "parse": parse, "accepts": accepts},
    )


def _url_setting(default: str | None, variable: str) -> Any:
    accepts = (
        f"a URL that begins with https:// or http://, such as {DEFAULT_API_URL}, without a query, a fragment or an "
        "unencoded password"
    )
    return field(
        default=default, metadata={"variables": (variable,), "parse": _url, "accepts": accepts, "is_secret": True}
    )


def _text(value: str) -> str:
    return value


def _url(value: str) -> str:
    """A URL without user and password. A query or a fragment may hold a credential, and so may the path after a port
    that is not a number (a password with a ``/`` in it). Such a URL is refused, as it would be written to journals."""
    url = strip_userinfo(value)
    parts = urllib.parse.urlsplit(url)
    _ = parts.port
    if parts.scheme not in ("http", "https") or not parts.hostname or "?" in url or "#" in url:
        raise ValueError
    return url


def _key(value: str) -> str:
    key = value.strip()
    remember_key(key)
    if not fits_header(key):
        raise ValueError
    return key


def fits_header(key: str) -> bool:
    """True if an HTTP header can carry the key."""
    return all(letter.isprintable() and letter <= "\xff" for letter in key)


def _flag(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return known[value.lower()]


def _capture(value: str) -> bool:
    """:func:`_flag`, for settings that are functions as keywords."""
    return _flag(value)


def _policy(value: str) -> FlushPolicy:
    return FlushPolicy(value.lower())


_PARSERS_OF: Mapping[type, tuple[Callable[[str], Any], ...]] = {bool: (_flag, _capture), FlushPolicy: (_policy,)}
"""The parsers of settings whose keywords may have this type."""


def _seconds(value: str) -> float:
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(value)
    return seconds


def _bytes(value: str) -> int:
    size = int(value)
    if size < 0:
        raise ValueError(value)
    return size


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _directory(value: str) -> Path:
    """An absolute path, as the program may change its working directory."""
    return Path(os.path.abspath(os.path.expanduser(value)))


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(value)
        return value.lower()

    return parse


_SECONDS = "a number of seconds, 0 or more"
_BYTES = "a whole number of bytes, 0 or more"
_FLAG = "true or false"
_CAPTURE = "true or false; as a keyword also a function, which is not async"
ACCEPTED_KEY = "a Braintrust key, of printable Latin-1 characters and without line breaks"


@dataclass(frozen=True)
class Settings:
    """How trace-guard behaves in this process. Times are in seconds, sizes in bytes.

    Create settings with :meth:`from_env`; the constructor does not read the environment.
    """

    project: str | None = _setting(None, "TRACE_GUARD_PROJECT", _text, "a project's name")
    """Name of the Braintrust project; by default the function's name. With ``project_id`` it is only a label."""

    project_id: str | None = _setting(
        None, "TRACE_GUARD_PROJECT_ID", _text, "a project's id", "BRAINTRUST_PROJECT_ID"
    )
    """Id of the Braintrust project; overrides the name."""

    backend: str = _setting(
        "auto", "TRACE_GUARD_BACKEND", _one_of("auto", "braintrust", "local", "memory"), "auto, braintrust or local"
    )
    """``braintrust``, ``local``, or ``auto``: Braintrust when there is a key."""

    dir: Path = _setting(Path(), "TRACE_GUARD_DIR", _directory, "a directory")
    """Journal, caches and local store (``traces.db``); the platform's writable directory, else the user's
    state directory."""

    flush: FlushPolicy = _setting(
        FlushPolicy.AUTO, "TRACE_GUARD_FLUSH", _policy,
        "auto, before-response or after-response",
    )
    """When rows are delivered."""

    flush_timeout: float = _setting(2.0, "TRACE_GUARD_FLUSH_TIMEOUT", _seconds, _SECONDS)
    """Most seconds that a response may wait for delivery; also capped by the time left minus the reserve."""

    reserve: float = _setting(0.3, "TRACE_GUARD_RESERVE", _seconds, _SECONDS)
    """Seconds kept back before the platform's deadline, never more than a fifth of the timeout."""

    timeout: float | None = _setting(None, "TRACE_GUARD_TIMEOUT", _seconds, _SECONDS)
    """Azure Functions: seconds that a function may take; by default the host's setting. 0 means no limit."""

    span_timeout: float | None = _setting(None, "TRACE_GUARD_SPAN_TIMEOUT", _seconds, _SECONDS)
    """Seconds without activity after which a span is closed that no deadline bounds; by default, and with 0, never."""

    linger: float = _setting(1.0, "TRACE_GUARD_LINGER", _seconds, _SECONDS)
    """Seconds that rows of a running invocation are held back to be sent together."""

    capture_input: Capture = _setting(True, "TRACE_GUARD_CAPTURE_INPUT", _capture, _CAPTURE)
    """Log the event or request on the root span. The keyword also accepts a function that gets it and returns what is
    logged."""

    capture_output: Capture = _setting(True, "TRACE_GUARD_CAPTURE_OUTPUT", _capture, _CAPTURE)
    """Log the result or response on the root span; as a function like ``capture_input``."""

    redact: tuple[str | Redactor, ...] = _setting(
        (), "TRACE_GUARD_REDACT", _words, "keys, separated by commas; as a keyword also functions of a key and a value"
    )
    """More keys whose values are redacted in captured input and output, at any depth and in any spelling: ``ssn``
    matches keys that end in this word, ``*_pin`` and ``x-internal-*`` match all words of a key. The keyword also
    accepts functions that are called with a key and its value, and return True to redact the value, None or False to
    keep it, or a replacement. See :class:`trace_guard.payload.Payload`."""

    exit_timeout: float = _setting(30.0, "TRACE_GUARD_EXIT_TIMEOUT", _seconds, _SECONDS)
    """Most seconds that a normal exit waits for delivery."""

    grace: float | None = _setting(None, "TRACE_GUARD_GRACE", _seconds, _SECONDS)
    """Seconds between SIGTERM and SIGKILL, for jobs and ``trace-guard run``; by default the platform's."""

    max_payload_bytes: int = _setting(65536, "TRACE_GUARD_MAX_PAYLOAD_BYTES", _bytes, _BYTES)
    """Captured input and output are cut beyond this, and marked as cut."""

    max_journal_bytes: int = _setting(67108864, "TRACE_GUARD_MAX_JOURNAL_BYTES", _bytes, _BYTES)
    """Size limit of the journal directory. Beyond it payloads are dropped first; the ends of spans are always kept."""

    sync: str = _setting("os", "TRACE_GUARD_SYNC", _one_of("os", "always"), "os or always")
    """``os`` survives the death of the process; ``always`` (fsync) also survives that of the host."""

    parent: str | None = _setting(None, PARENT_VARIABLE, _text, "an exported span")
    """The exported span of another process, such as a supervisor, that becomes the parent of this process's
    invocations. An unreadable value is ignored with one warning."""

    disabled: bool = _setting(False, "TRACE_GUARD_DISABLED", _flag, _FLAG)
    """Disable trace-guard: functions are not wrapped, at no cost."""

    api_key: str | None = field(
        default=None, repr=False,
        metadata={"variables": ("BRAINTRUST_API_KEY",), "parse": _key, "accepts": ACCEPTED_KEY, "is_secret": True},
    )
    """The Braintrust API key that the SDK reads. It is never written to disk, and is removed from every message."""

    api_url: str | None = _url_setting(None, "BRAINTRUST_API_URL")
    """Where rows go; by default the API URL that the login returns. User and password in a URL are dropped, as
    requests carry the key."""

    app_url: str = _url_setting(DEFAULT_APP_URL, "BRAINTRUST_APP_URL")
    """Where the SDK logs in."""

    org_name: str | None = _setting(None, "BRAINTRUST_ORG_NAME", _text, "an organisation's name")
    """Selects one of several organisations of the key."""

    def __post_init__(self) -> None:
        remember_key(self.api_key)
        for name in ("api_url", "app_url"):
            url = getattr(self, name)
            if isinstance(url, str) and "@" in url:
                object.__setattr__(self, name, strip_userinfo(url))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **keywords: Any) -> Settings:
        """Settings from keywords, then the environment, then defaults.

        A keyword with the value None counts as not given.

        Raises:
            SettingsError: a value is invalid; the message names the variable, the value and what is accepted.
            TypeError: a keyword is not a setting.
        """
        if environ is None:
            environ = os.environ
            for complaint in unknown_variables(environ):
                warn_once(complaint, "%s", complaint)
        known = {setting.name: setting for setting in fields(cls)}
        for name in keywords:
            if name not in known:
                raise TypeError(
                    f"{name!r} is not a setting; the settings are {', '.join(known)}{_suggestion(name, known)}"
                )
        values: dict[str, Any] = {}
        for name, setting in known.items():
            given = keywords.get(name)
            if given is not None:
                values[name] = _checked(f"{name}=", given, setting.metadata)
                continue
            for variable in setting.metadata["variables"]:
                if environ.get(variable, "").strip():
                    values[name] = _checked(variable, environ[variable].strip(), setting.metadata)
                    break
        values.setdefault("dir", default_directory(environ))
        if not values.get("project"):
            values["project"] = default_project(environ)
        return cls(**values)

    def with_login(self, api_key: str | None, app_url: str, org_name: str | None) -> Settings:
        """The same settings for a login with another key that the program made."""
        return replace(self, api_key=api_key, app_url=app_url, org_name=org_name)

    @property
    def backend_name(self) -> str:
        """``backend`` with ``auto`` resolved."""
        if self.backend != "auto":
            return self.backend
        return "braintrust" if self.api_key else "local"

    @property
    def lacks_key(self) -> bool:
        """True if rows go to Braintrust as soon as there is a key."""
        return self.backend in ("auto", "braintrust") and not self.api_key

    @property
    def destination(self) -> dict[str, str | None]:
        """Identifies the destination. A journal is delivered only to the destination that it was written for. The
        key is included as a fingerprint that does not reveal it."""
        if self.backend_name != "braintrust":
            return {"backend": self.backend_name}
        identified = f"trace-guard:{self.api_key}".encode(errors="surrogatepass")
        fingerprint = sha256(identified).hexdigest()[:16] if self.api_key else None
        return {
            "backend": "braintrust",
            "api_url": self.api_url,
            "app_url": self.app_url,
            "org_name": self.org_name,
            "key_fingerprint": fingerprint,
        }

    def reserve_of(self, seconds: float) -> float:
        """The reserve for a unit of work that may take ``seconds``: at most a fifth of it."""
        return min(self.reserve, max(0.0, seconds) / 5)


def checked(name: str, value: Any) -> Any:
    """The parsed value of a keyword.

    Raises:
        SettingsError: the value is invalid; the message names the keyword, the value and what is accepted.
    """
    return _checked(f"{name}=", value, _ABOUT[name])


def checked_seconds(name: str, value: Any) -> float:
    """The seconds of a keyword that is no setting. Raises as :func:`checked` does."""
    seconds: float = _checked(f"{name}=", value, {"parse": _seconds, "accepts": _SECONDS})
    return seconds


def _checked(source: str, value: Any, about: Mapping[str, Any]) -> Any:
    """Parses the text of a setting. A keyword may already have the type of its field."""
    parse = about["parse"]
    try:
        if parse is _words and not isinstance(value, str):
            return _rules(source, value, about["accepts"])
        if isinstance(value, (int, float)) and not isinstance(value, bool) and parse in (_seconds, _bytes):
            value = str(value)
        elif isinstance(value, timedelta) and parse is _seconds:
            return seconds_of(value)
        elif isinstance(value, os.PathLike) and parse is _directory:
            value = os.fspath(value)
        elif isinstance(value, (bool, FlushPolicy)) and parse in _PARSERS_OF[type(value)]:
            return value
        if parse is _capture and callable(value) and not _is_async(value):
            return value
        return parse(_as_text(value))
    except SettingsError:
        raise
    except (ValueError, KeyError, TypeError):
        if about.get("is_secret"):
            raise SettingsError(f"{source} is not accepted: it takes {about['accepts']}") from None
        # Not "from error": its text has the value, which may be a secret in the wrong variable.
        raise SettingsError(f"{source} is {value!r}, which is not accepted: it takes {about['accepts']}") from None


def _is_async(function: Any) -> bool:
    """True for an async function, and for an object with an async ``__call__``."""
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is not a text")
    return value


def _rules(source: str, value: Any, accepts: str) -> tuple[str | Redactor, ...]:
    rules = (value,) if callable(value) else tuple(value)
    for rule in rules:
        if not (isinstance(rule, str) or callable(rule)):
            raise SettingsError(f"{source} has {rule!r}, which is not accepted: it takes {accepts}")
    return rules


_ABOUT: Mapping[str, Mapping[str, Any]] = {setting.name: setting.metadata for setting in fields(Settings)}

_PREFIX = "TRACE_GUARD_"
_OTHER_VARIABLES = ("TRACE_GUARD_HANDLER",)
"""Variables that are no settings: the handler of the Lambda layer and of ``trace_guard_lambda.entry``."""


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A complaint about each variable that begins with ``TRACE_GUARD_`` and that trace-guard does not read."""
    given = [name for name in environ if name.startswith(_PREFIX)]
    if not given:
        return []
    known = {*_OTHER_VARIABLES, *(name for about in _ABOUT.values() for name in about["variables"])}
    return [
        f"{name} is not a variable of trace-guard, and is ignored{_suggestion(name, known, _PREFIX)}"
        for name in sorted(given) if name not in known
    ]


def _suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The known name that is most like this one, as a question. A common prefix makes no names alike."""
    from difflib import get_close_matches  # only for a mistake

    close = get_close_matches(name[len(prefix) :], [one[len(prefix) :] for one in known if one.startswith(prefix)], 1)
    return f": did you mean {prefix}{close[0]}?" if close else ""


def default_project(environ: Mapping[str, str]) -> str:
    """The function's name on platforms that set one, else the program's name."""
    for variable in _FUNCTION_NAMES:
        if environ.get(variable):
            return environ[variable]
    program = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else ""
    return program if program not in ("", "-c", "-m", "__main__") else "trace-guard"


def is_instance_temporary(environ: Mapping[str, str]) -> bool:
    """True on platforms that delete an instance with its disk."""
    return any(environ.get(variable) for variable in (*_TEMPORARY_ONLY, *_CONTAINERS))


def may_freeze(environ: Mapping[str, str]) -> bool:
    """True on platforms that may give the process no CPU after a response."""
    return any(environ.get(variable) for variable in _FREEZING) or (
        _FREEZING_RESOURCE in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    )


def default_directory(environ: Mapping[str, str]) -> Path:
    """The platform's writable directory, else the user's state directory."""
    if any(environ.get(variable) for variable in _TEMPORARY_ONLY):
        return _temporary() / "trace-guard"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or _temporary()) / "trace-guard"
    if sys.platform == "darwin" and environ.get("HOME"):
        return Path(environ["HOME"]) / "Library" / "Application Support" / "trace-guard"
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "trace-guard"
    if environ.get("HOME") and os.access(environ["HOME"], os.W_OK):
        return Path(environ["HOME"]) / ".local" / "state" / "trace-guard"
    return _temporary() / f"trace-guard-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def _temporary() -> Path:
    """The temporary directory. If none is writable, opening the journal reports that."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path("/tmp")
