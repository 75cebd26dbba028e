"""Counts the labels of the data as they are written, and tells numbers from other labels."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeGuard

from recipes.common.runtime.errors import Refusal

Item = str | int | float  # one label
Value = Item | list[Item]  # what a cell holds
Counted = Item | tuple[Item, ...]  # a value as a key of Counter: lists are tuples

# At most this many different floats are counted. More are ratings: each row may have another.
RATINGS = 1000
KINDS = (str, int, float)  # what one label may be


@dataclass
class SeenLabels:
    """Counts the labels of one split: how often each value occurs, and where it occurs first."""

    counts: Counter[Counted] = field(default_factory=Counter)
    places: dict[Counted, str] = field(default_factory=dict)
    types: dict[str, tuple[object, str]] = field(default_factory=dict)  # an example of each type
    rows: int = 0
    total: float = 0.0  # the sum of the numbers among the labels
    missing: int = 0  # rows without a label

    def add(self, value: object, place: str, rows: int = 1) -> None:
        """Counts the label of one row, or of several rows with the same label."""
        if value is None:
            self.missing += rows
            return
        kind = type(value).__name__
        self.rows += rows
        self.total += rows * (number(value) or 0.0)
        self.types.setdefault(kind, (value, place))
        if isinstance(value, float):
            if not math.isfinite(value):
                self.types[kind] = (value, place)
            if len(self.counts) >= RATINGS:
                return
        if _is_label(value):
            counted = key(value)
            self.counts[counted] += rows
            self.places.setdefault(counted, place)
            return
        for odd_kind, item in _odd_items(value).items():
            self.types.setdefault(odd_kind, (item, place))

    def read(self, meaning: Callable[[Value], Value | None]) -> "SeenLabels":
        """Returns the same rows with what their values mean.

        Of more than RATINGS different floats, the others count only in the sums.
        """
        found = SeenLabels(missing=self.missing)
        for value, rows in self.counts.items():
            as_read: Value = list(value) if isinstance(value, tuple) else value
            found.add(meaning(as_read), self.places[value], rows)
        if len(self.counts) >= RATINGS and "float" in self.types:
            found.rows += self.rows - self.counts.total()
            found.total += self.total - _total(self.counts)
            found.types["float"] = self.types["float"]
        return found

    def items(self) -> Counter[Item]:
        """Returns how many rows have each label, alone or in a list."""
        found: Counter[Item] = Counter()
        for value, rows in self.counts.items():
            for item in dict.fromkeys(items_of(value)):
                found[item] += rows
        return found

    def place(self, label: Item) -> str:
        """Returns where a label that was counted occurs first, alone or in a list."""
        places = self.places.items()
        return next(place for value, place in places if label in (value, *items_of(value)))


def _is_label(value: object) -> TypeGuard[Value]:
    """Whether a value can be a label, or a list of labels."""
    return not _odd_items(value)


def _odd_items(value: object) -> dict[str, object]:
    """Returns values that can be no label, by their type: the value itself, or items of a list."""
    if isinstance(value, KINDS):
        return {}
    if not isinstance(value, list):
        return {type(value).__name__: value}
    odd: dict[str, object] = {}
    for item in value:
        if not isinstance(item, KINDS):
            odd.setdefault(f"{type(item).__name__} in a list", item)
    return odd


def _total(counts: Counter[Counted]) -> float:
    return sum(rows * (number(value) or 0.0) for value, rows in counts.items())


def items_of(value: Counted) -> tuple[Item, ...]:
    """Returns the labels of a counted value: those of a list, or the value alone."""
    if isinstance(value, tuple):
        return value
    return (value,)


def key(value: Value) -> Counted:
    """Returns a label in the form in which it can be counted."""
    return tuple(value) if isinstance(value, list) else value


def is_missing(value: object) -> bool:
    """Whether a row has no label: null, an empty cell, or nan."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def number(value: object) -> float | None:
    """Returns the finite number that a value is or spells, or None."""
    if not isinstance(value, KINDS):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):  # the second for a number of more than 308 digits
        return None
    return parsed if math.isfinite(parsed) else None


def is_number(value: object) -> bool:
    """Whether a value is, or spells, a finite number."""
    return number(value) is not None


def check_types(labels: SeenLabels) -> None:
    """Refuses what can be no label: a date, a table in a cell."""
    for kind, (value, place) in labels.types.items():
        if kind not in ("bool", "int", "float", "str", "list"):
            what = f"a label is a {kind}: {value}"
            raise Refusal(what, place, "use a text, a number or a list of texts")
