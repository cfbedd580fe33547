"""What a command is called, by its words."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["name_of_command"]


class _Launcher(NamedTuple):
    """A program of which it says more what it runs, and the options that stand before that.

    Attributes:
        code: letters of options behind which there is no file: the next word is a program, or standard input is.
        module: the letter of that behind which a module is named.
        values: letters of options that have a value, in the same word or else the next one.
        attached: those that have all that follows in the same word for their value.
        long_code, long_values: the same, in words.
        clusters: the value is always the next word, as letters may follow in the same.
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
# Of a file or a module; anything else may be a program, with secrets in it.
_NAME = re.compile(r"[\w.+@-]{1,100}")
_ASSIGNMENT = re.compile(r"\w+=")
_BEHIND_NAME = re.compile(r"[\s=]")


def name_of_command(command: Sequence[str]) -> str:
    """The program's name, or that of the script or module which an interpreter is to run."""
    program = os.path.basename(command[0]) or command[0]
    launcher = next((one for pattern, one in _LAUNCHERS if pattern.match(program)), None)
    found = None if launcher is None else _launched(launcher, command[1:])
    if found is not None and _NAME.fullmatch(found):
        return found
    # A whole command line may stand here by mistake, and begin with `API_KEY=...`.
    return _BEHIND_NAME.split(command[0] if _ASSIGNMENT.match(command[0]) else program)[0] or program


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
