"""The public surface: a change to it shows up here."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import trace_guard
from trace_guard import errors

SURFACE = [
    "Backend", "BackendError", "BackendRefused", "BackendUnauthorized", "BackendUnavailable", "Deadline", "Delivery",
    "FlushPolicy", "Guard", "Invocation", "Job", "JournalDamaged", "JournalError", "JournalUnavailable", "LocalStore",
    "Outcome", "Reaper", "Recovery", "Result", "Settings", "SettingsError", "Step", "TraceGuardError", "configure",
    "current_invocation", "current_job", "current_step", "default_guard", "guard_job", "keep_open", "process",
    "recover", "step", "watch",
]


def test_the_surface_is_locked() -> None:
    """What trace_guard exports changes on purpose only, and all of it is there."""
    assert trace_guard.__all__ == SURFACE
    for name in SURFACE:
        assert inspect.getdoc(getattr(trace_guard, name)), name


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (trace_guard.Guard.invocation,
         "self name *deadline *parent *input *metadata *tags *platform"),
        (trace_guard.Guard.job, "self name *grace *parent *input *metadata *tags *heartbeat *progress *fail_if"),
        (trace_guard.Guard.step, "self name *input *metadata"),
        (trace_guard.Guard.process, "self items function *workers *name *on_error *in_order"),
        (trace_guard.Guard.wrap, "self function *name *metadata *tags"),
        (trace_guard.guard_job,
         "main *guard *project *project_id *name *capture_input *capture_output *tags *metadata *flush *grace *parent "
         "*heartbeat *progress *fail_if"),
        (trace_guard.process, "items function *workers *name *on_error *in_order"),
        (trace_guard.step, "name *input *metadata"),
        (trace_guard.Guard.__init__, "self settings *backend **keywords"),
        (trace_guard.Guard.flush, "self timeout"),
        (trace_guard.Guard.close, "self timeout"),
        (trace_guard.Settings.from_env, "environ **keywords"),
        (trace_guard.configure, "settings **keywords"),
        (trace_guard.recover, "settings *timeout"),
        (trace_guard.Reaper,
         "settings *projects *all_projects *experiments *older_than *since *filter *limit *shard *parallel *error "
         "*audit"),
        (trace_guard.Reaper.find, "self"),
        (trace_guard.Reaper.close, "self on_trace"),
        (trace_guard.keep_open, "span reason until"),
        (trace_guard.watch, "guard **keywords"),
        (trace_guard.Deadline.after, "seconds"),
    ],
)
def test_signatures_are_locked(function: object, parameters: str) -> None:
    """The documented functions keep their parameters, in order and in kind."""
    marks = {inspect.Parameter.KEYWORD_ONLY: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    assert callable(function)
    found = inspect.signature(function).parameters.values()
    assert " ".join(marks.get(one.kind, "") + one.name for one in found) == parameters


def test_the_values_of_enums_are_locked() -> None:
    """The words that stand in stored metadata and in settings never change."""
    assert [one.value for one in trace_guard.Outcome] == ["ok", "error", "timed_out", "terminated", "abandoned"]
    assert [one.value for one in trace_guard.FlushPolicy] == ["auto", "before-response", "after-response"]
    verdicts = ("DELIVERED", "DEFERRED", "SPOOLED", "REFUSED", "LOST")
    assert [getattr(trace_guard.Delivery, name).value for name in verdicts] == [name.lower() for name in verdicts]


def test_the_tree_of_exceptions_is_as_drawn() -> None:
    """Every exception has one root, and stands in the tree that its module draws."""
    drawn = errors.__doc__ or ""
    every = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)]
    assert all(issubclass(one, errors.TraceGuardError) for one in every)
    assert all(f" {one.__name__} " in drawn or one is errors.TraceGuardError for one in every)


def test_importing_the_core_imports_no_sdk() -> None:
    """Importing trace_guard, as the command line does, loads neither the SDK nor SQLite, Rich, or what jobs need."""
    heavy = ("braintrust", "sqlite3", "rich", "urllib3", "trace_guard.jobs.job")
    code = f"import sys, trace_guard; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
