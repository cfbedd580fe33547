"""The base class of the platforms that jobs run on: see :mod:`trace_guard.jobs.platforms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Environ", "Platform"]

Environ = Mapping[str, str]


class Platform:
    """A platform, and the facts about a job in its environment variables.

    Attributes:
        name: logged as ``job.platform`` in the metadata.
        grace: seconds between the platform's SIGTERM and its SIGKILL.
    """

    name = "plain"
    grace = 30.0

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        """True if the job runs on this platform."""
        return True

    @property
    def job_name(self) -> str | None:
        """The platform's name for the job; None if it has none."""
        return None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata for the root span, without unknown values.

        Common keys of ``job``: ``platform``; ``id`` of this attempt; ``group``, the same for all attempts; ``attempt``,
        counted from 1 on every platform; ``retries``, one less; ``index`` and ``count`` of an array job. Other keys are
        specific to the platform.
        """
        job = {"platform": self.name, **self._job()}
        if job.get("attempt") is not None:
            job["retries"] = job["attempt"] - 1
        return {**_known(self._facts()), "job": _known(job)}

    def _job(self) -> dict[str, Any]:
        return {}

    def _facts(self) -> dict[str, Any]:
        return {}

    def _first(self, *variables: str) -> str | None:
        return next((self._environ[name] for name in variables if self._environ.get(name)), None)

    def _number(self, variable: str) -> int | None:
        value = self._environ.get(variable, "").strip()
        return int(value) if value.isdecimal() else None


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, "")}
