"""Describes how a column writes its labels, and reads its cells."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from recipes.common.data.label_cells import Row, bit, divided, in_brackets, word
from recipes.common.data.seen_labels import Counted, Item, Value, key
from recipes.common.runtime.errors import Refusal

Listed = Value | Row | list[str]  # a value, a list where it spells one


@dataclass(frozen=True)
class Asked:
    """Holds what the user, the data set or a trained model says about the labels."""

    names: Sequence[str] = ()  # of the classes
    known: Sequence[str] = ()  # the names of a checkpoint's classes; the data may have others
    do_regression: bool | None = None
    columns: Sequence[str] = ()  # where each label has a column of its own
    delimiter: str | None = None
    map: dict[str, str] = field(default_factory=dict)
    by_position: bool = False  # the data set itself names its classes 0, 1, …


@dataclass(frozen=True)
class Spelling:
    """Describes how a column writes its labels: what a cell becomes, step by step."""

    missing: frozenset[Counted] = frozenset()
    bracketed: bool = False  # [food, price] without quotes
    delimiter: str = ""
    wraps: bool = False  # a text among lists is a list of one
    names: tuple[str, ...] = ()  # of the places of a vector of 0 and 1
    numbers: bool = False  # every item is a number
    decimal_comma: bool = False
    whole: bool = False  # 1.0 is the class 1
    map: dict[str, str] = field(default_factory=dict)

    def read(self, value: Value | None) -> Value | None:
        """Returns the value that a cell means, or None where it means that there is no label."""
        if value is None or (self.missing and key(value) in self.missing):
            return None
        found = self.listed(value)
        if not isinstance(found, list | tuple):
            return self._one(found)
        if self.numbers:
            numbers: list[Item] = list(map(float, found))
            if not numbers:
                return None
            return numbers if len(numbers) > 1 else numbers[0]
        if self.names:
            return [name for name, item in zip(self.names, found, strict=True) if bit(item)]
        return [item for item in dict.fromkeys(map(self._one, found)) if item is not None]

    def listed(self, value: Value | Counted) -> Listed:
        """Returns the list of labels that a text holds; anything but a text stays as it is."""
        if not isinstance(value, str):
            return value
        if self.decimal_comma:
            return value.replace(",", ".")
        if self.bracketed and in_brackets(value):
            return divided(value[1:-1], ",")
        if self.delimiter:
            return divided(value, self.delimiter)
        return [value] if self.wraps else value

    def _one(self, value: Item) -> Item | None:
        if self.map:
            return self.map.get(word(value))
        if not self.whole:
            return value
        if isinstance(value, str):
            return word(value)
        return int(value)


def mapping(words: Sequence[str] | None) -> dict[str, str]:
    """Returns the values of --label_map with their names.

    "1,2=negative 4,5=positive" -> {"1": "negative", "2": "negative", "4": "positive", …}.
    "0=bad,1=good" -> {"0": "bad", "1": "good"}.
    """
    groups: list[str] = []
    for group in words or ():
        pairs = group.split(",")
        if all(pair.count("=") == 1 for pair in pairs):
            groups += pairs
        else:
            groups += shlex.split(group)
    found: dict[str, str] = {}
    for group in groups:
        values, _, name = group.rpartition("=")
        name = name.strip()
        if not values.strip() or not name:
            fix = 'write VALUES=NAME, for example --label_map "1,2=negative 4,5=positive"'
            raise Refusal(f"{group!r} names no class for a value", "--label_map", fix)
        for value in map(str.strip, values.split(",")):
            if found.setdefault(value, name) != name:
                what = f"{value!r} is both {found[value]!r} and {name!r}"
                raise Refusal(what, "--label_map", "name every value once")
    return found
