"""Derives the name of a command from its command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["name_of_command"]


class _Launcher(NamedTuple):
    """The options of an interpreter, whose script or module names the command better than the interpreter does.

    Attributes:
        code: letters of options that run code from the next word or from standard input, so that there is no script.
        module: the letter of the option that takes a module's name.
        values: letters of options that take a value, in the same word or the next one.
        attached: letters of options whose value is the rest of the same word.
        long_code: long options like ``code``.
        long_values: long options like ``values``.
        clusters: the value is always the next word, as more letters may follow in the same word.
    """

    code: str
    module: str = ""
    values: str = ""
    attached: str = ""
    long_code: tuple[str, ...] = ()
    long_values: tuple[str, ...] = ()
    clusters: bool = False


_PYTHON = _Launcher("c", "m", "WX", long_values=("--check-hash-based-pycs",))
_SHELL = _Launcher("cs", values="oO", long_values=("--rcfile", "--init-file"), clusters=True)
_NODE = _Launcher(
    "ep", values="rC", long_code=("--eval", "--print"),
    long_values=("--require", "--import", "--loader", "--experimental-loader", "--env-file", "--conditions"),
)
_RUBY = _Launcher("e", values="IrCE", attached="Fix")
_PERL = _Launcher("eE", values="I", attached="FimMx")
_LAUNCHERS = (
    (re.compile(r"(python|pypy)[\d.]*t?$"), _PYTHON), (re.compile(r"(bash|dash|sh|zsh|ksh|ash)$"), _SHELL),
    (re.compile(r"node[\d.]*$"), _NODE), (re.compile(r"ruby[\d.]*$"), _RUBY),
    (re.compile(r"perl[\d.]*$"), _PERL),
)
# The name of a file or a module. Anything else may be code, which may contain secrets.
_NAME = re.compile(r"[\w.+@-]{1,100}")
_ASSIGNMENT = re.compile(r"\w+=")
_AFTER_NAME = re.compile(r"[\s=]")


def name_of_command(command: Sequence[str]) -> str:
    """The name of the program, or of the script or module that an interpreter runs."""
    program = os.path.basename(command[0]) or command[0]
    launcher = next((known for pattern, known in _LAUNCHERS if pattern.match(program)), None)
    name = None if launcher is None else _launched(launcher, command[1:])
    if name is not None and _NAME.fullmatch(name):
        return name
    # The first word may be a whole command line by mistake, such as `API_KEY=... job`.
    return _AFTER_NAME.split(command[0] if _ASSIGNMENT.match(command[0]) else program)[0] or program


def _launched(launcher: _Launcher, words: Sequence[str]) -> str | None:
    """The name of the script or module; None if there is none."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            word = next(rest, "-")
        elif word.startswith("--"):
            if word.partition("=")[0] in launcher.long_code:
                return None
            if word in launcher.long_values:
                next(rest, None)
            continue
        if word == "-":
            return None
        if word[:1] not in ("-", "+"):
            return os.path.splitext(os.path.basename(word))[0]
        for place, letter in enumerate(word[1:], 2):
            if letter in launcher.code:
                return None
            if letter == launcher.module:
                return word[place:] or next(rest, None)
            if letter in launcher.values:
                if launcher.clusters or place == len(word):
                    next(rest, None)
                if not launcher.clusters:
                    break
            if letter in launcher.attached:
                break
    return None
