"""Describes the labels of a task: their kind, and what a model learns of each."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.common.data.seen_labels import Item, is_missing

# A label as a model learns it: an id, a number, or numbers.
Encoded = int | float | list[int] | list[float]

# Hugging Face's names (config.problem_type)
SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"
PER_WORD = "token_classification"  # one class per word: no problem_type
MISSING = -100  # the label that losses and metrics leave out


@dataclass(frozen=True)
class Labels:
    """Describes the labels of a task: their kind (config.problem_type), and their names in order.

    The names are those of classes, or of several numbers per row.
    """

    kind: str
    names: list[str]
    values: dict[Item, int]  # a label as it is in the data -> its id
    counts: list[int]  # rows of each class in training
    rows: int  # rows with a label, or words with a label
    mean: float | list[float]
    # Whether they are the labels of a checkpoint that is trained further. The data may have others.
    is_trained_further: bool = False

    @property
    def config(self) -> dict[str, object]:
        """Returns what a model's configuration keeps of the labels, for the names in pipeline()."""
        if self.kind == REGRESSION and not self.names:
            return {"num_labels": 1, "problem_type": self.kind}
        id2label = dict(enumerate(self.names))
        label2id = {name: position for position, name in enumerate(self.names)}
        config: dict[str, object] = {"id2label": id2label, "label2id": label2id}
        if self.kind != PER_WORD:
            config["problem_type"] = self.kind
        return config

    @property
    def baseline(self) -> Encoded:
        """Returns the prediction that ignores the text.

        It is the most frequent class, the labels of most rows, or the mean.
        """
        if self.kind == REGRESSION:
            return self.mean
        if self.kind in (SINGLE, PER_WORD):
            return self.counts.index(max(self.counts))
        return [int(count > self.rows / 2) for count in self.counts]

    def encode(self, values: Iterable[Any]) -> Sequence[Encoded]:
        """Returns the encoded labels of the rows, from which the model learns.

        They are ids for classes, multi-hot rows for several labels, and floats for regression. A
        row without a label has MISSING, or nan. Where each word has a label, a row has a list.
        """
        if self.kind == PER_WORD:
            return [self._class_ids(row or ()) for row in values]
        if self.kind == MULTI:
            return list(map(self._multi_hot, values))
        if self.kind == SINGLE:
            return self._class_ids(values)
        if self.names:
            return list(map(self._numbers, values))
        return _ratings(values)

    def _class_ids(self, values: Iterable[Item | None]) -> list[int]:
        ids = []
        for value in values:
            if value is None or is_missing(value):
                ids.append(MISSING)
            else:
                ids.append(self.values[value])
        return ids

    def _multi_hot(self, items: list[Item] | None) -> list[float]:
        if items is None:
            return [float(MISSING)] * len(self.names)
        row = [0.0] * len(self.names)
        for item in items:
            row[self.values[item]] = 1.0
        return row

    def _numbers(self, items: list[Item] | None) -> list[float]:
        if items is None:
            return [math.nan] * len(self.names)
        return list(map(float, items))


def _ratings(values: Iterable[Item | None]) -> list[float]:
    ratings = []
    for value in values:
        if value is None or is_missing(value):
            ratings.append(math.nan)
        else:
            ratings.append(float(value))
    return ratings
