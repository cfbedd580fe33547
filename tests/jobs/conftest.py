"""Fixtures of the job tests."""

from fixtures import *  # noqa: F403
