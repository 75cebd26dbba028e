"""Words of users' data -> Markdown that shows them as they are: no image is loaded, no table breaks, nothing is set."""

import re

from recipes.common.runtime.messages import visible

# What Markdown, GitHub's tables and formulas, and HTML take for markup; an underscore within a word is none.
MARKS = re.compile(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])|:(?=//|[a-z0-9_+-]+:)")
ENTITY = re.compile(r"&(?=#?\w+;)")


def text(value: object, most: int = 300) -> str:
    """The words in one line of running text, or in a cell of a table."""
    shown = MARKS.sub(r"\\\g<0>", visible(str(value), most))
    return ENTITY.sub("&amp;", shown).replace("<", "&lt;").replace(">", "&gt;")


def code(value: object, most: int = 300) -> str:
    """The words as inline code, outside of tables; backticks in them do not end it."""
    shown = visible(str(value), most)
    fence = "`" * (_longest_run(shown) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}" if shown.strip() else text(shown)


def block(value: str, language: str) -> str:
    """A block of code."""
    fence = "`" * max(3, _longest_run(value) + 1)
    return f"{fence}{language}\n{value}\n{fence}"


def _longest_run(value: str) -> int:
    return max(map(len, re.findall("`+", value)), default=0)
