"""Fixtures of these tests."""

from fixtures import *  # noqa: F403
