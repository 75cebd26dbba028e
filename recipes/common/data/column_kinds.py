"""Defines the kinds of columns: how a cell of each kind is read, and its type on disk.

A `Kind` reads one cell, and refuses a value of another kind. A new kind of text is a `Kind` here. A
new kind of label needs a place in `labels` too, where it becomes what a model learns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow

from recipes.common.data import label_cells
from recipes.common.data.labels import MISSING
from recipes.common.runtime.errors import Refusal

Place = Callable[[], str]  # says where a row stands
LIST = pyarrow.list_(pyarrow.string())


@dataclass(frozen=True)
class Kind:
    """Describes the values in the cells of a column."""

    read: Callable[[object, str, Place], Any]  # cell, column, place -> the value
    column: pyarrow.DataType | None = None  # on disk; None for labels, which are encoded later
    per_word: bool = False  # the value is a list of one label per word


def _text(value: object, name: str, where: Place) -> str:
    """Returns the text of a cell; refuses other values, and text that is no Unicode."""
    if value is None:
        return ""
    if not isinstance(value, str):
        what = f"{name!r} must be a text, not {type(value).__name__}: {value}"
        fix = f"write it in quotes, or name another column than {name!r}"
        raise Refusal(what, where(), fix)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        what = f"{name!r} holds half a character ({value[error.start]!r})"
        fix = "write the file again with a tool that keeps Unicode whole"
        raise Refusal(what, where(), fix) from None
    return value


def _words(value: object, name: str, where: Place) -> list[str]:
    """Returns the words of a cell: those of a list, or those between the spaces of a text."""
    found = _items(value, name, where)
    for word in found:
        if not isinstance(word, str):
            what = f"{name!r} must be a list of words, but one is a {type(word).__name__}: {word}"
            raise Refusal(what, where(), "write every word in quotes")
        _text(word, name, where)
    return found


def _label(value: object, name: str, where: Place) -> object:
    return label_cells.cell(value)


def _labels_per_word(value: object, name: str, where: Place) -> list[str | int | None] | None:
    """Returns the labels of a cell, one per word; None where it is empty."""
    found = _items(value, name, where)
    for label in found:
        if not isinstance(label, str | int) or isinstance(label, bool):
            what = f"{name!r} must be a list of labels, but one is a {type(label).__name__}"
            fix = "write a text or a whole number for each word"
            raise Refusal(f"{what}: {label}", where(), fix)
        if label == "":
            raise Refusal("a word has no label", where(), "write O where a word has none")
    labels: list[str | int | None] = [None if one == MISSING else one for one in found]
    return labels or None


def _items(value: object, name: str, where: Place) -> list[Any]:
    """Returns the items of a list. A text may spell the list, or its words are the items."""
    if value is None:
        return []
    if isinstance(value, str):
        written = label_cells.written_list(value.strip())
        return value.split() if written is None else written
    if not isinstance(value, list):
        what = f"{name!r} must be a list, not {type(value).__name__}: {value}"
        fix = f"write one item per word, or name another column than {name!r}"
        raise Refusal(what, where(), fix)
    return value


TEXT = Kind(_text, pyarrow.string())
WORDS = Kind(_words, LIST)
LABEL = Kind(_label)
PER_WORD = Kind(_labels_per_word, per_word=True)
