"""Label values as they stand in the data -> the kind of task, the classes' names, and what the model learns from."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note

# Hugging Face's names (config.problem_type)
SINGLE, MULTI, REGRESSION = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
RATINGS = (
    1000  # so many different floats are counted; more are ratings, of which there may be one a row
)
KINDS = (str, int, float)  # what a label may be
MISSING = -100  # the label that losses and metrics leave out


@dataclass
class Seen:
    """One split's labels: how often each value (a list as a tuple) occurs and where it stands first."""

    counts: Counter = field(default_factory=Counter)
    places: dict[Any, str] = field(default_factory=dict)
    types: dict[str, tuple[Any, str]] = field(default_factory=dict)
    rows: int = 0
    total: float = 0.0  # of the numbers among them
    missing: int = 0  # rows without a label

    def add(self, value: Any, place: str, rows: int = 1) -> None:
        """Counts the label of one row, or of so many."""
        if value is None:
            self.missing += rows
            return
        kind = type(value).__name__
        self.rows += rows
        self.total += rows * (number(value) or 0.0)
        self.types.setdefault(kind, (value, place))
        if isinstance(value, float) and not math.isfinite(value):
            self.types[kind] = (value, place)
        if isinstance(value, float) and len(self.counts) >= RATINGS:
            return
        items, within = (value, " in a list") if isinstance(value, list) else ([value], "")
        odd = [item for item in items if not isinstance(item, KINDS)]
        for item in odd:
            self.types.setdefault(f"{type(item).__name__}{within}", (item, place))
        if not odd:
            self.counts[key(value)] += rows
            self.places.setdefault(key(value), place)

    def read(self, meaning: Callable[[Any], Any]) -> "Seen":
        """The same rows with what their values mean; of many different floats only some are known one by one."""
        found = Seen(missing=self.missing)
        for value, rows in self.counts.items():
            found.add(
                meaning(list(value) if isinstance(value, tuple) else value),
                self.places[value],
                rows,
            )
        if len(self.counts) >= RATINGS and "float" in self.types:
            found.rows += self.rows - sum(self.counts.values())
            found.total += self.total - sum(
                rows * (number(value) or 0.0) for value, rows in self.counts.items()
            )
            found.types["float"] = self.types["float"]
        return found

    def items(self) -> Counter:
        """The rows that have each label, alone or in a list."""
        found: Counter = Counter()
        for value, rows in self.counts.items():
            for item in dict.fromkeys(value) if isinstance(value, tuple) else [value]:
                found[item] += rows
        return found

    def place(self, label: Any) -> str:
        """Where a label stands first, alone or in a list."""
        places = self.places.items()
        return next(
            place
            for value, place in places
            if value == label or (isinstance(value, tuple) and label in value)
        )


@dataclass(frozen=True)
class Labels:
    """The kind of task (config.problem_type) and the names, in order, of the classes or of several numbers a row."""

    kind: str
    names: list[str]
    values: dict[Any, int]  # a label as it stands in the data -> its id
    counts: list[int]  # rows of each class in training
    rows: int
    mean: float | list[float]
    goes_on: bool = (
        False  # of a checkpoint that is trained further: the data may bring other classes
    )

    @property
    def config(self) -> dict[str, Any]:
        """What a model's configuration keeps of the labels, so that pipeline() answers with their names."""
        if self.kind == REGRESSION and not self.names:
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
        if self.kind == REGRESSION and self.names:
            unknown = [math.nan] * len(self.names)
            return [
                unknown if value is None else [float(item) for item in value] for value in values
            ]
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


def key(value: Any) -> Any:
    """A label by which it can be counted."""
    return tuple(value) if isinstance(value, list) else value


def is_missing(value: Any) -> bool:
    """Whether a row has no label: null, an empty cell, or nan."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def decide(
    seen: dict[str, Seen],
    flag: str,
    names: Sequence[str] | None = None,
    do_regression: bool | None = None,
    trained: Labels | None = None,
    by_position: bool = False,
) -> Labels:
    """The labels of a data set from what was seen in each split, or those of a trained model.

    `names` (or the trained model) fixes the classes; otherwise the training split's values do, sorted. A trained model
    keeps its ids where the data has its classes in another order. `by_position`: the names are those of 0, 1, …, as a
    data set's own are. Refuses mixed types, classes unknown to training, a single class, and no labels at all.
    """
    seen = {split: labels for split, labels in seen.items() if labels.types}
    if not seen and trained and not trained.goes_on:
        return trained
    if not seen:
        raise Refusal(
            "no row has a label",
            flag,
            "name its column, or predict with a trained --model_name_or_path",
        )
    if trained and not trained.goes_on:
        names, do_regression = names or trained.names, trained.kind == REGRESSION
    for labels in seen.values():
        check_types(labels)
        _check_one_type(labels, flag)
    reference = seen.get("train") or next(iter(seen.values()))
    if do_regression or (do_regression is None and _looks_like_regression(reference, bool(names))):
        return _numbers(seen, reference, names, flag)
    return _classes(seen, reference, names, trained, flag, by_position)


def _classes(
    seen: dict[str, Seen],
    reference: Seen,
    names: Sequence[str] | None,
    trained: Labels | None,
    flag: str,
    by_position: bool,
) -> Labels:
    """The classes by their names, or by the values of the split that they are learned from."""
    present = Counter()
    for labels in seen.values():
        present.update(labels.items())
    names = names or _names_to_go_on(present, trained)
    counts = reference.items()
    values = (
        _named_values(names, present, flag, by_position, bool(trained))
        if names
        else _sorted_values(counts)
    )
    _check_classes(values, seen, flag)
    if trained:
        names, values = _as_trained(names or [str(value) for value in values], values, trained)
    rows = [0] * len(names or values)
    for value, position in values.items():
        rows[position] += counts[value]
    kind = MULTI if "list" in reference.types else SINGLE
    return Labels(kind, list(names or map(str, values)), values, rows, reference.rows, 0.0)


def _numbers(
    seen: dict[str, Seen], reference: Seen, names: Sequence[str] | None, flag: str
) -> Labels:
    _check_numbers(seen, flag)
    width = max((len(value) for value in reference.counts if isinstance(value, tuple)), default=1)
    if width == 1:
        return Labels(REGRESSION, [], {}, [], reference.rows, reference.total / reference.rows)
    sums = [
        sum(value[place] * rows for value, rows in reference.counts.items())
        for place in range(width)
    ]
    names = list(names) if names and len(names) == width else list(map(str, range(width)))
    return Labels(
        REGRESSION, names, {}, [], reference.rows, [total / reference.rows for total in sums]
    )


def _names_to_go_on(present: Counter, trained: Labels | None) -> list[str] | None:
    """The names of a checkpoint that is trained further, where the data's labels are some of them, or their numbers."""
    if trained is None or not trained.names:
        return None
    known = {name.lower() for name in trained.names}
    if {str(value).lower() for value in present} <= known:
        return trained.names
    numbers = [_integer(value) for value in present]
    if (
        None in numbers
        or max(numbers) - min(numbers) + 1 != len(trained.names)
        or min(numbers) not in (0, 1)
    ):
        return None
    return trained.names


def _as_trained(
    names: Sequence[str], values: dict[Any, int], trained: Labels
) -> tuple[Sequence[str], dict[Any, int]]:
    """The names and ids of a trained model for the same classes in the data's order: the Hub's copies of MNLI begin
    with entailment, roberta-large-mnli with contradiction."""
    ids = {name.lower(): position for position, name in enumerate(trained.names)}
    if {name.lower() for name in names} != ids.keys() or len(ids) < len(
        names
    ):  # or they differ by case alone
        if trained.goes_on and len(names) == len(ids):
            shown = f"{_listed(names)} are not its classes: {_listed(trained.names)}"
            note(f"the checkpoint's head is trained further for other classes: {shown}")
        return names, values
    if trained.goes_on:
        note(f"the classes are the checkpoint's, in its order: {_listed(trained.names)}")
    return trained.names, {
        value: ids[names[position].lower()] for value, position in values.items()
    }


def _listed(names: Iterable[Any], most: int = 5) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def check_types(labels: Seen) -> None:
    """Refuses what can be no label: a date, a table in a cell."""
    known = {"bool", "int", "float", "str", "list"}
    odd = next((kind for kind in labels.types if kind not in known), None)
    if odd:
        value, place = labels.types[odd]
        raise Refusal(
            f"a label is a {odd}: {value}", place, "use a text, a number or a list of texts"
        )


def _check_one_type(labels: Seen, flag: str) -> None:
    kinds = dict(labels.types)
    if {"int", "float"} <= kinds.keys():
        kinds.pop("int")
    if len(kinds) > 1:
        (first, (value, place)), (second, (other, other_place)) = list(kinds.items())[:2]
        what = f"labels of mixed types: {value!r} ({first}, {place}) and {other!r} ({second})"
        raise Refusal(what, other_place, f"write all of {flag}'s values in one type")


def _looks_like_regression(labels: Seen, named: bool) -> bool:
    """Floats are ratings, as in run_classification, unless classes are named; a CSV's numbers are text, so there a
    decimal point decides."""
    if "list" in labels.types:
        items = [item for value in labels.counts for item in value]
        return bool(items) and all(isinstance(item, float) for item in items)
    if named:
        return False
    if "float" in labels.types:
        return True
    texts = [value for value in labels.counts if isinstance(value, str)]
    return (
        bool(texts)
        and any("." in text for text in texts)
        and all(number(text) is not None for text in texts)
    )


def number(value: Any) -> float | None:
    """The finite number that a value is or spells, or None."""
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):  # the last for a number of more than 308 digits
        return None
    return parsed if math.isfinite(parsed) else None


def _check_numbers(seen: dict[str, Seen], flag: str) -> None:
    for labels in seen.values():
        found = [
            (value, place) for value, place in labels.types.values() if not isinstance(value, list)
        ]
        found += [(item, labels.place(item)) for item in labels.items() if number(item) is None]
        for value, place in found:
            if number(value) is None:
                fix = f"regression needs a finite number in {flag}; for classes say --do_regression False"
                raise Refusal(f"label {value!r} is not a number", place, fix)


def _sorted_values(counts: Counter) -> dict[Any, int]:
    def order(value):
        parsed = number(value)
        return (0, parsed, str(value)) if parsed is not None else (1, 0.0, str(value))

    return {value: position for position, value in enumerate(sorted(counts, key=order))}


def _named_values(
    names: Sequence[str], present: Counter, flag: str, by_position: bool, trained: bool
) -> dict[Any, int]:
    """Label values by the names given: a text is its own name, case apart; a number, also a CSV's, has a place.

    Where the names are a data set's own, a file of theirs may hold numbers and another one names.
    """
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice:
        raise Refusal(
            f"the class {twice!r} is named twice",
            "--class_names",
            "name every class once, in order of id",
        )
    if (
        len(names) == 2
        and {str(value).lower() for value in present} <= {"true", "false"}
        and not present.keys() & {*names}
    ):
        return {value: int(str(value).lower() == "true") for value in present}
    exact = {name: position for position, name in enumerate(names)}
    folded = {name.lower(): position for name, position in exact.items()}
    numbers = {value: _integer(value) for value in present}
    if None in numbers.values() or {str(value) for value in present} <= exact.keys():
        alike = folded if len(folded) == len(exact) else {}
        own = {
            value: one for value, one in numbers.items() if by_position and one in range(len(names))
        }
        found = {value: alike.get(str(value).lower(), own.get(value)) for value in present}
        found |= {value: exact[str(value)] for value in present if str(value) in exact}
        return exact | {
            value: position for value, position in found.items() if position is not None
        }
    places = _places(names, set(numbers.values()), flag, by_position, trained)
    text = isinstance(next(iter(present)), str)
    found = {str(one) if text else one: position for one, position in places.items()}
    return found | {value: places[one] for value, one in numbers.items() if one in places}


def _places(
    names: Sequence[str], numbers: set[int], flag: str, by_position: bool, trained: bool
) -> dict[int, int]:
    """Which name each number has: 0 the first; or, where there are as many numbers as names, the least the first."""
    count, ordered = len(names), sorted(numbers)
    positions = {position: position for position in range(count)}
    beside = not numbers <= positions.keys() or 0 not in numbers
    if by_position or not beside or {0, 1} == {*ordered[:2]}:
        return positions
    if len(numbers) == count:
        found = {one: position for position, one in enumerate(ordered)}
    elif numbers <= {*range(1, count + 1)} and count in numbers:
        found = {position + 1: position for position in range(count)}
    elif not numbers <= positions.keys():
        return positions
    elif trained:
        found = positions
    else:
        what = f"is {names[0]!r} the name of 0 or of 1? There are {count} names for the labels {_listed(ordered)}"
        fix = f"say it by value: --label_map {' '.join(f'{one}=NAME' for one in ordered[:3])} …"
        raise Refusal(what, "--class_names", fix)
    pairs = [f"{one} {names[position]}" for one, position in found.items()]
    note(f"{flag}: the numbers are named in their order: {_listed(pairs)}")
    return found


def _integer(value: Any) -> int | None:
    """The whole number that a value is, or spells without a point."""
    if isinstance(value, str):
        return int(value) if value.removeprefix("-").isdecimal() else None
    return int(value) if isinstance(value, int | float) and number(value) == int(value) else None


def _check_classes(values: dict[Any, int], seen: dict[str, Seen], flag: str) -> None:
    if len(values) < 2:
        only = next(iter(values), None)
        places = [labels.place(only) for labels in seen.values() if only in labels.items()]
        if only is not None and not places:
            raise Refusal(
                f"{only!r} is the only class", "--class_names", "name all classes, in order of id"
            )
        where = next(iter(places), flag)
        fix = "classification needs two classes; is another column the label, or --max_train_samples too small?"
        raise Refusal(f"all labels are {only!r}", where, fix)
    rows = sum(seen["train"].items().values()) if "train" in seen else 0
    if len(values) > 20 and rows and len(values) > rows / 2:
        fix = "name the label's column, or say --do_regression for ratings"
        raise Refusal(
            f"{len(values)} different labels in {rows} rows: that is no set of classes", flag, fix
        )
    for split, labels in seen.items():
        unknown = next((value for value in labels.items() if value not in values), None)
        if unknown is not None:
            close = nearest(str(unknown), map(str, values))
            known = ", ".join(repr(value) for value in list(values)[:5])
            fix = f"did you mean {close!r}?" if close else f"known labels: {known}"
            fix += f"; --label_map {unknown}=NAME … names another"
            raise Refusal(
                f"label {unknown!r} in {split} is unknown to training", labels.place(unknown), fix
            )
