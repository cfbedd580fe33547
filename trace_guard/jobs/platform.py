"""A place that jobs run in, and what it says of them: see :mod:`trace_guard.jobs.platforms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Environ", "Platform"]

Environ = Mapping[str, str]


class Platform:
    """A place, and how a job finds out about itself there.

    Attributes:
        name: stands in the metadata as ``job.platform``.
        grace: seconds between the platform's SIGTERM and its SIGKILL.
    """

    name = "plain"
    grace = 30.0

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        """True if the job runs there."""
        return True

    @property
    def job_name(self) -> str | None:
        """What the job is called there; None if it has no name there."""
        return None

    @property
    def metadata(self) -> dict[str, Any]:
        """For the root span. What is not known is left out.

        ``job`` has ``platform``; ``id`` of what runs here; ``group``, which all attempts of it have in common;
        ``attempt``, from 1 on, whatever the platform counts from, and ``retries``, one less; ``index`` and ``count``
        of an array; the rest is the platform's own.
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
        return next((self._environ[one] for one in variables if self._environ.get(one)), None)

    def _number(self, variable: str) -> int | None:
        value = self._environ.get(variable, "").strip()
        return int(value) if value.isdecimal() else None


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, "")}
