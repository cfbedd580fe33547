"""The sources of settings, and the errors for bad values."""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trace_guard import FlushPolicy, Guard, Settings, SettingsError, configure
from trace_guard.backends.memory import MemoryBackend
from trace_guard.cli.commands import COMMANDS
from trace_guard.settings import unknown_variables

README = Path(__file__).parents[2] / "README.md"

# A value other than the default for each variable, and the parsed value.
VALUES: dict[str, tuple[str, Any]] = {
    "TRACE_GUARD_PROJECT": ("support-bot", "support-bot"),
    "TRACE_GUARD_PROJECT_ID": ("id-1", "id-1"),
    "BRAINTRUST_PROJECT_ID": ("id-2", "id-2"),
    "TRACE_GUARD_BACKEND": ("Local", "local"),
    "TRACE_GUARD_DIR": ("/somewhere/else", Path("/somewhere/else")),
    "TRACE_GUARD_FLUSH": ("after-response", FlushPolicy.AFTER_RESPONSE),
    "TRACE_GUARD_FLUSH_TIMEOUT": ("0.5", 0.5),
    "TRACE_GUARD_RESERVE": ("1", 1.0),
    "TRACE_GUARD_TIMEOUT": ("20", 20.0),
    "TRACE_GUARD_SPAN_TIMEOUT": ("90", 90.0),
    "TRACE_GUARD_LINGER": ("0", 0.0),
    "TRACE_GUARD_CAPTURE_INPUT": ("no", False),
    "TRACE_GUARD_CAPTURE_OUTPUT": ("0", False),
    "TRACE_GUARD_REDACT": ("ssn, iban", ("ssn", "iban")),
    "TRACE_GUARD_EXIT_TIMEOUT": ("5", 5.0),
    "TRACE_GUARD_GRACE": ("45", 45.0),
    "TRACE_GUARD_MAX_PAYLOAD_BYTES": ("1000", 1000),
    "TRACE_GUARD_MAX_JOURNAL_BYTES": ("2000", 2000),
    "TRACE_GUARD_SYNC": ("always", "always"),
    "TRACE_GUARD_PARENT": ("AwEA", "AwEA"),
    "TRACE_GUARD_DISABLED": ("TRUE", True),
    "BRAINTRUST_API_KEY": ("sk-1", "sk-1"),
    "BRAINTRUST_API_URL": ("https://api.test", "https://api.test"),
    "BRAINTRUST_APP_URL": ("https://app.test", "https://app.test"),
    "BRAINTRUST_ORG_NAME": ("acme", "acme"),
}
BAD = {
    "TRACE_GUARD_BACKEND": "cloud",
    "TRACE_GUARD_FLUSH": "sometimes",
    "TRACE_GUARD_FLUSH_TIMEOUT": "2s",
    "TRACE_GUARD_RESERVE": "-1",
    "TRACE_GUARD_TIMEOUT": "soon",
    "TRACE_GUARD_SPAN_TIMEOUT": "-5",
    "TRACE_GUARD_LINGER": "nan",
    "TRACE_GUARD_CAPTURE_INPUT": "perhaps",
    "TRACE_GUARD_CAPTURE_OUTPUT": "2",
    "TRACE_GUARD_EXIT_TIMEOUT": "inf",
    "TRACE_GUARD_GRACE": "-1",
    "TRACE_GUARD_MAX_PAYLOAD_BYTES": "64k",
    "TRACE_GUARD_MAX_JOURNAL_BYTES": "-5",
    "TRACE_GUARD_SYNC": "never",
    "TRACE_GUARD_DISABLED": "maybe",
}


def fields_by_variable() -> dict[str, str]:
    return {
        variable: field.name for field in dataclasses.fields(Settings) for variable in field.metadata["variables"]
    }


def test_every_variable_is_tried_here() -> None:
    """These tests cover every variable that is read."""
    assert set(fields_by_variable()) == set(VALUES)


@pytest.mark.parametrize("variable", VALUES)
def test_a_variable_sets_its_field(variable: str) -> None:
    """Each environment variable sets the field that it is documented beside."""
    text, value = VALUES[variable]
    name = fields_by_variable()[variable]
    default = Settings.from_env({})
    assert Settings.from_env({variable: f" {text} "}) == dataclasses.replace(default, **{name: value})
    assert getattr(default, name) != value


@pytest.mark.parametrize("variable", VALUES)
def test_an_empty_variable_counts_as_unset(variable: str) -> None:
    """An empty variable, as templates leave it, counts as unset."""
    assert Settings.from_env({variable: " "}) == Settings.from_env({})


@pytest.mark.parametrize("variable", BAD)
def test_a_bad_value_is_named(variable: str) -> None:
    """The error for a bad value names the variable, the value and the accepted values."""
    with pytest.raises(SettingsError) as error:
        Settings.from_env({variable: BAD[variable]})
    message = str(error.value)
    assert message.startswith(f"{variable} is {BAD[variable]!r}, which is not accepted: it takes ")
    assert len(message.split("it takes ")[1]) > 5


def test_a_keyword_beats_the_environment() -> None:
    """A keyword overrides the variable, and None leaves the variable in force."""
    environ = {"TRACE_GUARD_PROJECT": "from-env", "TRACE_GUARD_RESERVE": "1"}
    settings = Settings.from_env(environ, project="from-keyword", reserve=None)
    assert (settings.project, settings.reserve) == ("from-keyword", 1.0)


def test_a_bad_keyword_is_named() -> None:
    """The error for a bad keyword value names it, and the error for an unknown keyword lists the known ones."""
    with pytest.raises(SettingsError, match=r"reserve= is '-1', which is not accepted"):
        Settings.from_env({}, reserve=-1)
    with pytest.raises(TypeError, match=r"'projekt' is not a setting; the settings are project, "):
        Settings.from_env({}, projekt="x")


@pytest.mark.parametrize(
    ("environ", "project"),
    [
        ({"AWS_LAMBDA_FUNCTION_NAME": "ask"}, "ask"),
        ({"K_SERVICE": "ask-service"}, "ask-service"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "ask", "TRACE_GUARD_PROJECT": "mine"}, "mine"),
    ],
)
def test_the_project_is_named_after_the_function(environ: dict[str, str], project: str) -> None:
    """The default project has the name of the function."""
    assert Settings.from_env(environ).project == project


def test_on_lambda_the_directory_is_temporary() -> None:
    """On Lambda, the journal is in the temporary directory, the only writable place."""
    import tempfile

    expected = Path(tempfile.gettempdir()) / "trace-guard"
    assert Settings.from_env({"AWS_LAMBDA_FUNCTION_NAME": "ask", "HOME": "/root"}).dir == expected


def test_the_key_stays_out_of_sight() -> None:
    """The API key is in no printed form of the settings, and is only a fingerprint in the destination."""
    settings = Settings.from_env({"BRAINTRUST_API_KEY": "sk-very-secret"})
    assert "sk-very-secret" not in repr(settings)
    assert "sk-very-secret" not in str(settings.destination)
    other = Settings.from_env({"BRAINTRUST_API_KEY": "sk-other"})
    assert settings.destination["key_fingerprint"] != other.destination["key_fingerprint"]


@pytest.mark.parametrize("key", [
    "planted-\u2026-key", "planted\nkey", "planted\r\nHost: h", "planted\x00key", "planted\tkey", "planted\u2028key",
    "planted\u00a0key", "planted\ud800key", "planted\x7fkey", "planted\u202ekey",
])
def test_a_key_that_no_header_can_carry_is_not_accepted(key: str) -> None:
    """The error for a key that no HTTP header can carry names its source, and shows no part of the key."""
    for source, environ, keywords in (
        ("BRAINTRUST_API_KEY", {"BRAINTRUST_API_KEY": key}, {}), ("api_key=", {}, {"api_key": key}),
    ):
        with pytest.raises(SettingsError) as error:
            Settings.from_env(environ, **keywords)
        shown = "".join(traceback.format_exception(error.type, error.value, None))
        assert str(error.value).startswith(f"{source} is not accepted: it takes a Braintrust key, of printable Latin-1")
        assert "planted" not in shown


@pytest.mark.parametrize("key", ["  sk-key \n", "key with spaces", "clé"])
def test_a_key_that_a_header_can_carry_is_accepted(key: str) -> None:
    """White space around a key is removed. Any other text that a header can carry is accepted."""
    assert Settings.from_env({"BRAINTRUST_API_KEY": key}).api_key == key.strip()


def test_urls_are_kept_without_their_user() -> None:
    """The user and password of a URL are in no printed form of the settings, and not in the destination on disk."""
    environ = {"BRAINTRUST_API_KEY": "key", "BRAINTRUST_API_URL": "https://me:planted@api.host/a@b"}
    settings = Settings.from_env(environ, app_url="https://planted@app.host")
    settings = settings.with_login("other key", "https://me:planted@app.host", None)
    assert "planted" not in f"{settings!r} {settings.destination}"
    assert (settings.api_url, settings.app_url) == ("https://api.host/a@b", "https://app.host")


@pytest.mark.parametrize(("seconds", "reserve"), [(3.0, 0.3), (1.0, 0.2), (0.0, 0.0), (float("inf"), 0.3)])
def test_the_reserve_is_at_most_a_fifth(seconds: float, reserve: float) -> None:
    """However short the timeout, four fifths of it stay the function's."""
    assert Settings().reserve_of(seconds) == pytest.approx(reserve)


def test_the_readmes_settings_are_true() -> None:
    """Each variable in the README's table exists, with the default that is in force."""
    rows = re.findall(r"^\| `([A-Z_]+)`[^|]*\|([^|]*)\|", README.read_text(), re.MULTILINE)
    documented = {name: default.strip().strip("`") for name, default in rows}
    assert documented
    assert set(documented) <= set(VALUES)
    for field in dataclasses.fields(Settings):
        default, variable = documented.get(field.metadata["variables"][0]), field.metadata["variables"][0]
        if default and field.name not in ("project", "dir"):
            assert Settings.from_env({variable: default}) == Settings.from_env({}), variable


def test_functions_can_redact() -> None:
    """``redact`` takes keys, a function, or several of both; anything else is named."""

    def mask(key: str, value: Any) -> Any: ...

    assert Settings.from_env({}, redact=mask).redact == (mask,)
    assert Settings.from_env({}, redact=["*_pin", mask]).redact == ("*_pin", mask)
    with pytest.raises(SettingsError, match=r"redact= has 5, which is not accepted: it takes keys"):
        Settings.from_env({}, redact=[5])


@pytest.mark.parametrize(("keyword", "value"), [
    ("backend", "braintrsut"), ("backend", 3), ("backend", MemoryBackend), ("backend", object()), ("project", 7),
    ("project_id", ["id"]), ("flush", 1), ("flush", "later"), ("capture_input", "perhaps"), ("capture_output", 2),
    ("linger", None.__class__), ("linger", True), ("max_journal_bytes", "many"), ("dir", 5), ("redact", 5),
    ("sync", True), ("api_key", 12),
])
def test_a_keyword_of_the_wrong_kind_is_refused_by_name(keyword: str, value: object) -> None:
    """A keyword that is not accepted raises at once and says which one it is, for a guard and for configure()."""
    for make in (Guard, configure):
        with pytest.raises(SettingsError, match=f"^{keyword}="):
            make(**{keyword: value})


@pytest.mark.parametrize("make", [Guard, configure])
def test_a_backend_by_name_or_as_an_object(
    make: Callable[..., Guard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend may be given as in the variable, in any case, beside settings too, or as an object."""
    monkeypatch.setattr("trace_guard.guard._default", None)
    assert make(backend="Local", api_key="key").settings.backend_name == "local"
    assert make(Settings(dir=tmp_path), backend="memory").settings.backend == "memory"
    backend = MemoryBackend()
    guard = make(Settings(dir=tmp_path), backend=backend)
    with guard.invocation("root"):
        pass
    guard.close()
    assert [row["span_attributes"]["name"] for row in backend.rows()] == ["root"]


@pytest.mark.parametrize("variable", ["BRAINTRUST_API_URL", "BRAINTRUST_APP_URL"])
@pytest.mark.parametrize(
    "url", ["https://user:Sec/ret9@host.test", "https://user:Secret9?x@host.test", "https://host.test/?token=Secret9"]
)
def test_a_url_that_may_hold_a_credential_is_refused_unseen(variable: str, url: str) -> None:
    """A URL whose credentials can't be told from its path is refused, and the error does not show it."""
    with pytest.raises(SettingsError, match=variable) as error:
        Settings.from_env({variable: url})
    assert "ret9" not in "".join(traceback.format_exception(error.value))


def test_a_rejected_value_is_not_in_the_chain_of_exceptions() -> None:
    """A key in the wrong variable does not show in the traceback of the error."""
    key = "sk-" + "planted-by-mistake-123456"
    with pytest.raises(SettingsError) as error:
        Settings.from_env({}, flush_timeout=key)
    assert key not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("variable", ["BRAINTRUST_API_URL", "BRAINTRUST_APP_URL"])
@pytest.mark.parametrize("value", ["api.braintrust.dev", "127.0.0.1:8000", "ftp://host", "https://", "//host"])
def test_a_url_needs_scheme_and_host(variable: str, value: str) -> None:
    """A URL without scheme or host is refused by name, with an example of a right one."""
    with pytest.raises(SettingsError, match=f"^{variable} is not accepted: it takes a URL that begins with https://"):
        Settings.from_env({variable: value})


def test_misspelled_variables_are_found() -> None:
    """Variables that nobody reads are named, with the one that was probably meant. Others are left alone."""
    environ = {
        "TRACE_GUARD_FLUSH_TIMOUT": "2", "TRACE_GUARD_PROJEKT": "x", "TRACE_GUARD_XYZZY": "", "TRACE_GUARD_DIR": "/x",
        "TRACE_GUARD_HANDLER": "app.handler", "PATH": "/bin", "BRAINTRUST_ANYTHING": "1",
    }
    ending = "is not a variable of trace-guard, and is ignored"
    assert unknown_variables(environ) == [
        f"TRACE_GUARD_FLUSH_TIMOUT {ending}: did you mean TRACE_GUARD_FLUSH_TIMEOUT?",
        f"TRACE_GUARD_PROJEKT {ending}: did you mean TRACE_GUARD_PROJECT?",
        f"TRACE_GUARD_XYZZY {ending}",
    ]


def test_a_misspelled_variable_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelled variable is reported when the settings are read, once, and nothing is raised."""
    monkeypatch.setenv("TRACE_GUARD_LINGERR", "2")
    assert Settings.from_env() == Settings.from_env()
    (said,) = caplog.messages
    assert said.startswith("trace-guard: TRACE_GUARD_LINGERR is not a variable")
    assert said.endswith("did you mean TRACE_GUARD_LINGER?")


def test_every_variable_in_the_code_is_known() -> None:
    """Every variable that the package reads or sets is a setting, or listed with the others."""
    places = [*(README.parent / "trace_guard").rglob("*.py"), *(README.parent / "adapters").rglob("*.py")]
    found = {name: "x" for place in places for name in re.findall(r"TRACE_GUARD_[A-Z_]*[A-Z]", place.read_text())}
    assert len(found) > 15
    assert unknown_variables(found) == []


def test_an_unknown_keyword_gets_a_suggestion() -> None:
    """The error for a misspelled keyword ends with the one that was probably meant."""
    with pytest.raises(TypeError, match=r"did you mean flush_timeout\?$"):
        Settings.from_env({}, flush_timout=2)


def test_the_settings_page_has_each_setting() -> None:
    """The table of docs/settings.md has each variable and keyword, with the default that is in force."""
    page = (README.parent / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| `(\w+)` \| ([^|]*)\|", page, re.MULTILINE)
    documented = {keyword: (tuple(re.findall(r"[A-Z_]+", names)), default.strip()) for names, keyword, default in rows}
    settings = {field.name: field.metadata["variables"] for field in dataclasses.fields(Settings)}
    assert {keyword: names for keyword, (names, _) in documented.items()} == settings
    for keyword, (names, default) in documented.items():
        if default.startswith("`"):
            value = getattr(Settings.from_env({names[0]: default.strip("`")}), keyword)
            assert value == getattr(Settings.from_env({}), keyword), keyword


def test_the_page_of_commands_has_each_command() -> None:
    """docs/cli.md names every command."""
    page = (README.parent / "docs" / "cli.md").read_text()
    for command in COMMANDS:
        assert f"`{command.name}" in page
