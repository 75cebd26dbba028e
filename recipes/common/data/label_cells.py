"""Reads what one cell of labels says by itself, and tells what its items are."""

import ast
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeGuard

from recipes.common.data.seen_labels import Counted, Item, is_missing, is_number, number

OPENING, CLOSING = ("[", "(", "{"), ("]", ")", "}")
LONGEST_LIST = 10_000  # characters of a cell that is looked at as a list
# How numpy prints numbers.
ARRAY = re.compile(r"\[\s*[-+.\d]+(?:e[-+]?\d+)?(?:\s+[-+.\d]+(?:e[-+]?\d+)?)*\s*\]", re.IGNORECASE)
BETWEEN_TEXTS = re.compile(r"(?<=['\"])\s+(?=['\"])")
WITH_POINT = re.compile(r"[-+]?\d+\.0*")
TRUTH_VALUES = {"true": 1, "false": 0, "yes": 1, "no": 0}
BITS = {0.0: 0, 1.0: 1}
LIST_IN_A_LIST: list[object] = [[]]  # stands for a list that is too deep for a parser

Row = tuple[Item, ...]  # several labels


def cell(value: object) -> object:
    """Returns what a cell says by itself.

    It is a text without the blanks around it, a list where one is written out, or None. A value
    that can be no label stays as it is.
    """
    if isinstance(value, str):
        text = value.strip()
        found = written_list(text)
        if found is not None:
            return cell(found)
        return text or None
    if isinstance(value, list):
        return [_item(item) for item in value if not _is_blank(item)]
    return None if is_missing(value) else value


def _item(item: object) -> object:
    """Returns what an item of a list says. A list in a list can be no label and stays as it is."""
    return item if isinstance(item, list) else cell(item)


def _is_blank(item: object) -> bool:
    return isinstance(item, str) and not item.strip()


def written_list(text: str) -> list[object] | None:
    """Returns the list that a text spells, or None where it spells none.

    It is written as in JSON, in Python, or in numpy, which writes no commas.
    """
    if not text.startswith(OPENING) or not text.endswith(CLOSING) or len(text) > LONGEST_LIST:
        return None
    if ARRAY.fullmatch(text):
        return list(map(_number, text[1:-1].split()))
    text = BETWEEN_TEXTS.sub(", ", text)  # Python would read ['a' 'b'] as one text
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):
                found = parse(text)
        except (ValueError, SyntaxError, MemoryError):
            continue
        except RecursionError:  # how deep a parser reads depends on the version of Python
            return LIST_IN_A_LIST if text.startswith("[[") else None
        if isinstance(found, list | tuple):
            return list(found)
        if isinstance(found, set):
            return sorted(found, key=str)
    return None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def in_brackets(text: str) -> bool:
    """Whether a text begins with [ and ends with ]."""
    return text.startswith("[") and text.endswith("]")


def divided(text: str, delimiter: str) -> list[str]:
    """Returns the parts of a text, without quotes, spaces around them and empty ones."""
    parts = []
    for part in text.split(delimiter):
        part = part.strip().strip("'\"").strip()
        if part:
            parts.append(part)
    return parts


def bit(item: Item) -> int | None:
    """Returns 0 or 1, however it is written; None for anything else."""
    if isinstance(item, str) and item.lower() in TRUTH_VALUES:
        return TRUTH_VALUES[item.lower()]
    found = number(item)
    return None if found is None else BITS.get(found)


def are_bits(items: Iterable[Item]) -> bool:
    """Whether all items are 0 or 1, however they are written."""
    return all(bit(item) is not None for item in items)


def are_vectors(rows: list[Row]) -> bool:
    """Whether lists are vectors of 0 and 1, of one length."""
    widths = set(map(len, rows))
    return len(widths) == 1 and max(widths) > 1 and are_bits(chain.from_iterable(rows))


def repeats(row: Row) -> bool:
    """Whether a number occurs twice in a row."""
    return len(set(map(float, row))) < len(row)


def is_plain_number(item: Item) -> bool:
    """Whether an item is a number, and not true or false."""
    return not isinstance(item, bool) and is_number(item)


def has_point(value: Counted) -> TypeGuard[str | float]:
    """Whether a number is written with a decimal point: 1.0."""
    if isinstance(value, str):
        return bool(WITH_POINT.fullmatch(value))
    return isinstance(value, float)


def is_whole(value: Counted) -> bool:
    """Whether a value is a whole number, however it is written: 1, 1.0, "1"."""
    found = None if isinstance(value, bool) else number(value)
    return found is not None and found.is_integer()


def word(value: Counted) -> str:
    """Returns a value as --label_map spells it: 1 for 1, 1.0 and "1.0"."""
    if has_point(value) and is_whole(value):
        return str(int(float(value)))
    return str(value)


def shown_row(row: Sequence[Item]) -> str:
    """Returns a list as it is shown: [food, price]."""
    return f"[{', '.join(map(str, row))}]"
