"""Turns users' texts into Markdown that shows them as they are.

No image is loaded, no table breaks, and nothing is set as a formula.
"""

import re

from recipes.common.runtime.messages import visible

# What Markdown, GitHub's tables and formulas, and HTML take for markup.
# An underscore within a word is none.
MARKS = re.compile(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])|:(?=//|[a-z0-9_+-]+:)")
ENTITY = re.compile(r"&(?=#?\w+;)")


def text(value: object, most: int = 300) -> str:
    """Returns the value as one line of running text, or as a cell of a table."""
    shown = MARKS.sub(r"\\\g<0>", visible(str(value), most))
    return ENTITY.sub("&amp;", shown).replace("<", "&lt;").replace(">", "&gt;")


def code(value: object, most: int = 300) -> str:
    """Returns the value as inline code, for use outside of tables.

    Backticks in the value do not end the code.
    """
    shown = visible(str(value), most)
    if not shown.strip():
        return text(shown)
    fence = "`" * (_longest_run(shown) + 1)
    if shown.startswith("`") or shown.endswith("`"):
        shown = f" {shown} "
    return f"{fence}{shown}{fence}"


def block(value: str, language: str) -> str:
    """Returns the value as a block of code."""
    fence = "`" * max(3, _longest_run(value) + 1)
    return f"{fence}{language}\n{value}\n{fence}"


def _longest_run(value: str) -> int:
    """Returns the length of the longest run of backticks."""
    return max(map(len, re.findall("`+", value)), default=0)
