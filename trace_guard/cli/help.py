"""The texts of ``--help``: the commands by what people want, and the examples of a command."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from .commands import COMMANDS, GROUPS, Command

__all__ = ["MainParser", "about_command"]


class MainParser(argparse.ArgumentParser):
    """The parser of ``trace-guard`` itself, whose help lists the commands by group."""

    def format_help(self) -> str:
        parts = [self.format_usage().rstrip(), "", self.description or ""]
        for group, title in GROUPS.items():
            lines = [_line(command) for command in COMMANDS if command.group == group]
            if lines:
                parts += ["", f"{title}:", *lines]
        parts += ["", "Options:"]
        for action in self._actions:
            if action.option_strings:
                names = ", ".join(action.option_strings)
                parts.append(_columns(f"{names} {action.metavar}" if action.metavar else names, action.help or ""))
        return "\n".join([*parts, "", _wrapped(self.epilog or "")]) + "\n"


def about_command(command: Command) -> tuple[str, str]:
    """The description and the epilog of a command's own help."""
    title = "example:" if len(command.examples) == 1 else "examples:"
    examples = "\n".join([title, *(f"  {line}" for line in command.examples)])
    return _wrapped(f"{command.help[0].upper()}{command.help[1:]}."), "\n\n".join(
        part for part in (examples, _wrapped(command.notes)) if part
    )


def _line(command: Command) -> str:
    return _columns(command.name, command.help)


def _columns(name: str, text: str) -> str:
    start = f"  {name:15} "
    if len(start) > 18:
        start = f"  {name}\n{' ' * 18}"
    width = max(30, shutil.get_terminal_size().columns - 2)
    lines = textwrap.wrap(text, width - 18) or [""]
    return start + f"\n{' ' * 18}".join(lines)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, max(30, shutil.get_terminal_size().columns - 2)))
