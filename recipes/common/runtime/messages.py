"""Prints notes and warnings for a user: one visible line each, from the main process only."""

import difflib
import os
import re
import sys
from collections.abc import Iterable

from recipes.common.runtime import secrets


def visible(text: str, limit: int = 300) -> str:
    """Returns the text as one printable line, cut to `limit` characters.

    Line breaks and terminal escapes from a user's data become visible. Passwords in addresses are
    hidden.
    """
    shown = "".join(map(_printable, secrets.without_passwords(text)))
    if len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def visible_lines(text: str) -> str:
    """Returns the text with its line breaks and tabs; other control characters become visible."""
    shown = []
    for part in re.split(r"([\n\t])", text):
        if part not in ("\n", "\t"):
            part = visible(part, 10 * len(part))
        shown.append(part)
    return "".join(shown)


def is_main_process() -> bool:
    """Whether this process prints and writes: it has rank 0, or is the only one."""
    return os.environ.get("RANK", "0") == "0"


def note(message: str) -> None:
    """Prints one line on standard error that a user may want to know."""
    if is_main_process():
        print(f"note: {visible(message)}", file=sys.stderr)


def warn(message: str) -> None:
    """Prints one line on standard error about something that a user should look into."""
    if is_main_process():
        print(f"warning: {visible(message)}", file=sys.stderr)


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns the known word that is most similar to `word`, or "" where none is close."""
    by_spelling = {_plain_spelling(name): name for name in known}
    matches = difflib.get_close_matches(_plain_spelling(word), by_spelling, n=1, cutoff=0.6)
    if not matches:
        return ""
    return by_spelling[matches[0]]


def _plain_spelling(word: str) -> str:
    return word.lower().replace("-", "_")


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Returns the fix for a wrong name: the most similar known one, or else `otherwise`."""
    close = nearest(word, known)
    if not close:
        return otherwise
    return f"did you mean {close}?"


def reason(error: Exception) -> str:
    """Returns the first line of an error's text, or its type where it has no text."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[0]
