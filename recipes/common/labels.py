"""Label values as they stand in the data -> the kind of task, the classes' names, and what the model learns from."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from recipes.common.errors import Refusal, nearest

# Hugging Face's names (config.problem_type)
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
RATINGS = 1000  # so many different floats are counted; more are ratings, of which there may be one a row
MISSING = -100  # the label that losses and metrics leave out


@dataclass
class Seen:
    """One split's labels: how often each value occurs and where it stands first; `places` is bounded by the classes."""

    counts: Counter = field(default_factory=Counter)
    places: dict[Any, str] = field(default_factory=dict)
    types: dict[str, tuple[Any, str]] = field(default_factory=dict)
    rows: int = 0
    total: float = 0.0  # of the numbers among them

    def add(self, value: Any, place: str) -> None:
        """Counts one row's label; a list counts each of its items."""
        kind = type(value).__name__
        self.rows += 1
        self.total += number(value) or 0.0
        self.types.setdefault(kind, (value, place))
        if isinstance(value, float) and not math.isfinite(value):
            self.types[kind] = (value, place)
        if isinstance(value, float) and len(self.counts) >= RATINGS:
            return
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str | int | float):
                self.types.setdefault(type(item).__name__, (item, place))
                continue
            self.counts[item] += 1
            self.places.setdefault(item, place)


@dataclass(frozen=True)
class Labels:
    """The kind of task (config.problem_type) and the classes' names in the order of their ids."""

    kind: str
    names: list[str]
    values: dict[Any, int]  # a label as it stands in the data -> its id
    counts: list[int]  # rows of each class in training
    rows: int
    mean: float

    @property
    def config(self) -> dict[str, Any]:
        """What a model's configuration keeps of the labels, so that pipeline() answers with their names."""
        if self.kind == REGRESSION:
            return {"num_labels": 1, "problem_type": self.kind}
        id2label = dict(enumerate(self.names))
        label2id = {name: position for position, name in id2label.items()}
        return {"id2label": id2label, "label2id": label2id, "problem_type": self.kind}

    @property
    def baseline(self) -> Any:
        """The answer that ignores the text: the most frequent class, the labels of most rows, or the mean."""
        if self.kind == REGRESSION:
            return self.mean
        if self.kind == SINGLE:
            return self.counts.index(max(self.counts))
        return [int(count > self.rows / 2) for count in self.counts]

    def encode(self, values: Iterable[Any]) -> list[Any]:
        """Ids for classes, multi-hot rows for several labels, floats for regression; MISSING (nan) where none is."""
        if self.kind == REGRESSION:
            return [math.nan if is_missing(value) else float(value) for value in values]
        if self.kind == SINGLE:
            return [MISSING if is_missing(value) else self.values[value] for value in values]
        return [self._multi_hot(value) for value in values]

    def _multi_hot(self, items: list | None) -> list[float]:
        if items is None:
            return [float(MISSING)] * len(self.names)
        present = {self.values[item] for item in items}
        return [float(position in present) for position in range(len(self.names))]


def is_missing(value: Any) -> bool:
    """Whether a row has no label: null, an empty cell, or nan."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def decide(
    seen: dict[str, Seen],
    flag: str,
    names: list[str] | None = None,
    do_regression: bool | None = None,
    trained: Labels | None = None,
) -> Labels:
    """The labels of a data set from what was seen in each split, or those of a trained model.

    `names` (or the trained model) fixes the classes; otherwise the training split's values do, sorted. A trained model
    keeps its ids where `names` has its classes in another order. Refuses mixed types, classes unknown to training, a
    single class, and no labels at all.
    """
    seen = {split: labels for split, labels in seen.items() if labels.types}
    if not seen and trained:
        return trained
    if not seen:
        raise Refusal("no row has a label", flag, "name its column, or predict with a trained --model_name_or_path")
    if trained:
        names, do_regression = names or trained.names, trained.kind == REGRESSION
    for labels in seen.values():
        _check_types(labels, flag)
    reference = seen.get("train") or next(iter(seen.values()))
    if do_regression or (do_regression is None and not names and _looks_like_regression(reference)):
        _check_numbers(seen, flag)
        return Labels(REGRESSION, [], {}, [], reference.rows, reference.total / reference.rows)
    kind = MULTI if "list" in reference.types else SINGLE
    values = _named_values(names, reference, flag) if names else _sorted_values(reference.counts)
    _check_classes(values, seen, flag)
    if trained and names:
        names, values = _as_trained(names, values, trained.names)
    counts = [0] * len(values)
    for value, position in values.items():
        counts[position] += reference.counts[value]
    return Labels(kind, names or [str(value) for value in values], values, counts, reference.rows, 0.0)


def _as_trained(names: list[str], values: dict[Any, int], trained: list[str]) -> tuple[list[str], dict[Any, int]]:
    """The names and ids of a trained model for the same classes in the data's order: the Hub's copies of MNLI begin
    with entailment, roberta-large-mnli with contradiction."""
    ids = {name.lower(): position for position, name in enumerate(trained)}
    if {name.lower() for name in names} != ids.keys() or len(ids) < len(names):  # or they differ by case alone
        return names, values
    return trained, {value: ids[names[position].lower()] for value, position in values.items()}


def _check_types(labels: Seen, flag: str) -> None:
    kinds = dict(labels.types)
    if {"int", "float"} <= kinds.keys():
        kinds.pop("int")
    known = {"bool", "int", "float", "str", "list"}
    odd = next((kind for kind in kinds if kind not in known), None)
    if odd:
        raise Refusal(f"a label is a {odd}: {kinds[odd][0]}", kinds[odd][1], "use a text, a number or a list of texts")
    if len(kinds) > 1:
        (first, (value, place)), (second, (other, other_place)) = list(kinds.items())[:2]
        what = f"labels of mixed types: {value!r} ({first}, {place}) and {other!r} ({second})"
        raise Refusal(what, other_place, f"write all of {flag}'s values in one type")


def _looks_like_regression(labels: Seen) -> bool:
    """Floats are ratings, as in run_classification; a CSV's numbers are text, so there a decimal point decides."""
    if "float" in labels.types:
        return True
    texts = [value for value in labels.counts if isinstance(value, str)]
    return bool(texts) and any("." in text for text in texts) and all(number(text) is not None for text in texts)


def number(value: Any) -> float | None:
    """The finite number that a value is or spells, or None."""
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        return None
    return parsed if math.isfinite(parsed) else None


def _check_numbers(seen: dict[str, Seen], flag: str) -> None:
    for labels in seen.values():
        for value, place in [*labels.types.values(), *((value, labels.places[value]) for value in labels.counts)]:
            if number(value) is None:
                fix = f"regression needs a finite number in {flag}; for classes say --do_regression False"
                raise Refusal(f"label {value!r} is not a number", place, fix)


def _sorted_values(counts: Counter) -> dict[Any, int]:
    def order(value):
        parsed = number(value)
        return (0, parsed, str(value)) if parsed is not None else (1, 0.0, str(value))

    return {value: position for position, value in enumerate(sorted(counts, key=order))}


def _named_values(names: list[str], labels: Seen, flag: str) -> dict[Any, int]:
    """Label values by the names given: a text is its own name, a number (also a CSV's) is the class's position."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise Refusal(f"the class {twice!r} is named twice", "--class_names", "name every class once, in order of id")
    positions = range(len(names))
    if "bool" in labels.types and len(names) == 2:
        return {False: 0, True: 1}
    if all(not isinstance(value, str) for value in labels.counts):
        by_name = {int(name): position for position, name in enumerate(names) if name.removeprefix("-").isdecimal()}
        is_named = labels.counts.keys() <= by_name.keys()  # as of a model that learned from stars, 1 to 5
        return by_name if is_named else {position: position for position in positions}
    if not set(labels.counts) & set(names) and all(str(value).isdigit() for value in labels.counts):
        return {str(position): position for position in positions}
    return {name: position for position, name in enumerate(names)}


def _check_classes(values: dict[Any, int], seen: dict[str, Seen], flag: str) -> None:
    if len(values) < 2:
        only = next(iter(values), None)
        where = next(iter(seen.values())).places.get(only, flag)
        fix = "classification needs two classes; is another column the label, or --max_train_samples too small?"
        raise Refusal(f"all labels are {only!r}", where, fix)
    rows = sum(seen["train"].counts.values()) if "train" in seen else 0
    if len(values) > 20 and rows and len(values) > rows / 2:
        fix = "name the label's column, or say --do_regression for ratings"
        raise Refusal(f"{len(values)} different labels in {rows} rows: that is no set of classes", flag, fix)
    for split, labels in seen.items():
        unknown = next((value for value in labels.counts if value not in values), None)
        if unknown is not None:
            close = nearest(str(unknown), map(str, values))
            known = ", ".join(repr(value) for value in list(values)[:5])
            fix = f"did you mean {close!r}?" if close else f"known labels: {known}"
            raise Refusal(f"label {unknown!r} in {split} is unknown to training", labels.places[unknown], fix)
