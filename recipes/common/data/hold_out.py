"""A text of few rows -> training and validation: its last part by characters, cut within a row where it must be."""

import datasets
import numpy
import pyarrow.compute

from recipes.common.runtime.errors import Refusal

FAR = 1000  # characters behind which no space is looked for: some scripts have none
TOLERANCE = 2  # rows stay whole where neither part is more than so many times smaller or larger than was meant


def is_coarse(train: datasets.Dataset, column: str, percentage: int, count: int) -> bool:
    """Whether the last `count` rows hold far more, or far less, than this percentage of the text."""
    lengths = _lengths(train, column)
    whole, held_out = lengths.sum(), lengths[len(lengths) - count :].sum()
    pairs = [
        (held_out, whole * percentage / 100),
        (whole - held_out, whole * (100 - percentage) / 100),
    ]
    return not all(meant / TOLERANCE <= found <= meant * TOLERANCE for found, meant in pairs)


def cut(
    train: datasets.Dataset, column: str, percentage: int
) -> tuple[datasets.Dataset, datasets.Dataset, int]:
    """The text but for its last part, that part, and how many rows are wholly in it: one row may be in both."""
    ends = numpy.cumsum(_lengths(train, column))
    border = int(ends[-1] * (100 - percentage) / 100)
    if not border:
        what = f"{percentage} % of {ends[-1]:,} characters leaves nothing to train on"
        raise Refusal(
            what, "--validation_split_percentage", "give more text, or a --validation_file"
        )
    row = int(numpy.searchsorted(ends, border, side="right"))
    text = train[row][column]
    place = _at_a_space(text, border - int(ends[row - 1] if row else 0))
    kept = [train.select(range(row))] if row else []
    held_out = [_with_text(train, row, column, text[place:])]
    kept += [_with_text(train, row, column, text[:place])] if text[:place] else []
    held_out += [train.select(range(row + 1, len(train)))] if row + 1 < len(train) else []
    before, after = datasets.concatenate_datasets(kept), datasets.concatenate_datasets(held_out)
    return before, after, len(train) - len(before)


def _lengths(train: datasets.Dataset, column: str) -> numpy.ndarray:
    return pyarrow.compute.utf8_length(train.data.column(column)).to_numpy()


def _at_a_space(text: str, place: int) -> int:
    """The place, or that behind the last space before it."""
    space = text.rfind(" ", max(0, place - FAR), place) + 1
    return space or place


def _with_text(train: datasets.Dataset, row: int, column: str, text: str) -> datasets.Dataset:
    values = {name: [value] for name, value in (train[row] | {column: text}).items()}
    return datasets.Dataset.from_dict(values, features=train.features)
