"""Holds out a part of the training data, where no validation data is given."""

from collections import Counter
from typing import Any

import datasets
import numpy

from recipes.common.data import character_split, labels
from recipes.common.data.checking import Table
from recipes.common.data.columns import inner
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

HELD_OUT = "held out for validation"
FLAG = "--validation_split_percentage"

Parts = tuple[Any, datasets.Dataset, int]  # training rows, validation rows, how many have moved


def split(
    table: Table, train: datasets.Dataset, percentage: int, seed: int, decided: labels.Labels | None
) -> Parts:
    """Returns training rows, validation rows, and how many rows have moved.

    The end of a text that continues from row to row is held out. Otherwise the rows are drawn with
    the seed, and every class keeps its share where each has enough rows.
    """
    if table.streamed:
        validation = table.kept(decided)
        return train, validation, len(validation)
    count = max(1, round(len(train) * percentage / 100))
    if _is_cut_within_rows(table, train, percentage, count):
        part = f"the last {percentage} % of the text, by characters"
        note(f"the rows are long: {part}, is held out for validation")
        return character_split.cut(train, inner(table.columns.texts[0]), percentage)
    if not 0 < count < len(train):
        what = f"{percentage} % of {len(train)} rows leaves nothing to train or validate on"
        raise Refusal(what, FLAG, "choose 1 to 50, or give a --validation_file")
    if table.source.continues_before:
        first = len(train) - count
        return train.select(range(first)), train.select(range(first, len(train))), count
    return _drawn(train, count, seed, decided)


def _is_cut_within_rows(table: Table, train: datasets.Dataset, percentage: int, count: int) -> bool:
    """Whether the rows of a text are too few, or too long, for whole ones to be held out."""
    is_text = not (table.columns.labels or table.columns.target)
    if not is_text or not 0 < percentage < 100:
        return False
    if not table.source.continues_before and len(train) > 1:
        return False
    return character_split.is_coarse(train, inner(table.columns.texts[0]), percentage, count)


def _drawn(train: datasets.Dataset, count: int, seed: int, decided: labels.Labels | None) -> Parts:
    from sklearn.model_selection import train_test_split

    positions = numpy.arange(len(train))
    strata = _strata(train, count, decided)
    kept, held_out = train_test_split(
        positions, test_size=count, random_state=seed, stratify=strata
    )
    return train.select(numpy.sort(kept)), train.select(numpy.sort(held_out)), count


def _strata(
    train: datasets.Dataset, count: int, decided: labels.Labels | None
) -> numpy.ndarray | None:
    """Returns the class of each row, where each part has room for a row of every class."""
    if decided is None or decided.kind != labels.SINGLE:
        return None
    classes = train["labels"][:]
    smallest = min(Counter(classes).values())
    room = min(count, len(train) - count)
    if smallest < 2 or room < len(decided.names):
        return None
    return numpy.array(classes)


def account(accounting: dict[str, dict[str, Any]], moved: int, count: int) -> None:
    """Accounts for the rows that were held out."""
    train = accounting["train"]
    train["used"] -= moved
    if moved:
        train["skipped"][HELD_OUT] = moved
    accounting["validation"] = {"read": count, "used": count, "skipped": {}}
