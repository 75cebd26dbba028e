"""Splits a text of few rows into training and validation, by characters.

Validation is the last part of the text; the border may be within a row.
"""

import datasets
import numpy
import pyarrow.compute

from recipes.common.runtime.errors import Refusal

FAR = 1000  # characters before the border that are searched for a space: some scripts have none
TOLERANCE = 2  # rows stay whole unless a part is half as large as requested, or twice as large


def is_coarse(train: datasets.Dataset, column: str, percentage: int, count: int) -> bool:
    """Whether the last `count` rows hold far more or far less than this percentage of the text."""
    lengths = _lengths(train, column)
    whole = lengths.sum()
    held_out = lengths[len(lengths) - count :].sum()
    meant, meant_to_stay = whole * percentage / 100, whole * (100 - percentage) / 100
    return not (_is_near(held_out, meant) and _is_near(whole - held_out, meant_to_stay))


def _is_near(found: float, meant: float) -> bool:
    return meant / TOLERANCE <= found <= meant * TOLERANCE


def cut(
    train: datasets.Dataset, column: str, percentage: int
) -> tuple[datasets.Dataset, datasets.Dataset, int]:
    """Returns the text before the border, the text behind it, and the number of whole rows behind.

    One row may be in both parts.
    """
    ends = numpy.cumsum(_lengths(train, column))
    border = int(ends[-1] * (100 - percentage) / 100)
    if not border:
        what = f"{percentage} % of {ends[-1]:,} characters leaves nothing to train on"
        fix = "give more text, or a --validation_file"
        raise Refusal(what, "--validation_split_percentage", fix)
    row = int(numpy.searchsorted(ends, border, side="right"))
    text = train[row][column]
    start = int(ends[row]) - len(text)
    place = _at_a_space(text, border - start)
    before, after = [], [_with_text(train, row, column, text[place:])]
    if row:
        before.append(train.select(range(row)))
    if text[:place]:
        before.append(_with_text(train, row, column, text[:place]))
    if row + 1 < len(train):
        after.append(train.select(range(row + 1, len(train))))
    kept = datasets.concatenate_datasets(before)
    return kept, datasets.concatenate_datasets(after), len(train) - len(kept)


def _lengths(train: datasets.Dataset, column: str) -> numpy.ndarray:
    return pyarrow.compute.utf8_length(train.data.column(column)).to_numpy()


def _at_a_space(text: str, place: int) -> int:
    """Returns the place behind the last space before this place, or the place itself."""
    behind_space = text.rfind(" ", max(0, place - FAR), place) + 1
    return behind_space or place


def _with_text(train: datasets.Dataset, row: int, column: str, text: str) -> datasets.Dataset:
    """Returns a data set of this one row, with another text."""
    changed = train[row] | {column: text}
    values = {name: [value] for name, value in changed.items()}
    return datasets.Dataset.from_dict(values, features=train.features)
