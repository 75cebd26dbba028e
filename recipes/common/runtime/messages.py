"""What is printed for a user: one visible line, from the main process only."""

import difflib
import os
import re
import sys
from collections.abc import Iterable

from recipes.common.runtime import secrets


def visible(text: str, limit: int = 300) -> str:
    """One printable line: line breaks and terminal escapes in a user's data become visible, passwords in addresses do
    not; long text is cut."""
    shown = secrets.without_passwords(text)
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def visible_lines(text: str) -> str:
    """The text with its line breaks and tabs, and without any other control character."""
    return "".join(
        part if part in "\n\t" else visible(part, 10 * len(part))
        for part in re.split(r"([\n\t])", text)
    )


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes (rank 0, or the only one)."""
    return os.environ.get("RANK", "0") == "0"


def note(message: str) -> None:
    """One line on standard error that a user may want to know."""
    if is_main_process():
        print(f"note: {visible(message)}", file=sys.stderr)


def warn(message: str) -> None:
    """One line on standard error that a user should look into."""
    if is_main_process():
        print(f"warning: {visible(message)}", file=sys.stderr)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like `word`, or an empty string where none is close."""
    known = list(known)
    folded = {name.lower().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The way out of a wrong name: the known one that looks most like it, or what is said otherwise."""
    close = nearest(word, known)
    return f"did you mean {close}?" if close else otherwise


def reason(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
