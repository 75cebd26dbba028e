"""Decides the kind of task, the names of the classes and the ids from the labels in the data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from recipes.common.data.labels import MULTI, PER_WORD, REGRESSION, SINGLE, Labels
from recipes.common.data.seen_labels import (
    Item,
    SeenLabels,
    check_types,
    is_number,
    items_of,
    number,
)
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note, warn

T = TypeVar("T")


def decide(
    seen: dict[str, SeenLabels],
    flag: str,
    names: Sequence[str] | None = None,
    do_regression: bool | None = None,
    trained: Labels | None = None,
    by_position: bool = False,
    per_word: bool = False,
) -> Labels:
    """Returns the labels of a data set, or those of a trained model.

    `seen` are the labels of each split. `names` (or the trained model) fixes the classes. Otherwise
    they are the values of the training split, sorted. A trained model keeps its ids where the data
    has its classes in another order. `by_position`: the names are those of 0, 1, …, as a data set's
    own names are. `per_word`: each word has a class. Refuses mixed types, classes unknown to
    training, a single class, and data without labels.
    """
    seen = {split: labels for split, labels in seen.items() if labels.types}
    fixed = trained if trained and not trained.is_trained_further else None
    if not seen and fixed:
        return fixed
    if not seen:
        fix = "name the label's column, or predict with a trained --model_name_or_path"
        raise Refusal("no row has a label", flag, fix)
    if fixed:
        names, do_regression = names or fixed.names, fixed.kind == REGRESSION
    for labels in seen.values():
        check_types(labels)
        _check_one_type(labels, flag)
    reference = seen.get("train") or next(iter(seen.values()))
    if do_regression is None and not per_word:
        do_regression = _looks_like_regression(reference, bool(names))
    if do_regression:
        return _several_numbers(seen, reference, names, flag)
    return _classes(seen, reference, names, trained, flag, by_position, per_word)


def _ids(values: Iterable[T]) -> dict[T, int]:
    """Returns each value with its place in the order."""
    return {value: position for position, value in enumerate(values)}


def _classes(
    seen: dict[str, SeenLabels],
    reference: SeenLabels,
    names: Sequence[str] | None,
    trained: Labels | None,
    flag: str,
    by_position: bool,
    per_word: bool,
) -> Labels:
    """Returns the classes, by their names or by the values of the reference split."""
    present: Counter[Item] = Counter()
    for labels in seen.values():
        present.update(labels.items())
    names = names or _checkpoint_names(present, trained)
    counts = reference.items()
    if names:
        values = _named_values(names, present, flag, by_position, bool(trained))
    else:
        values = _sorted_values(counts)
        if per_word:
            values |= _only_elsewhere(present, values, flag)
    _check_classes(values, seen, flag, per_word)
    if not names:
        names = list(map(str, values))
    if trained:
        names, values = _as_trained(names, values, trained)
    rows = [0] * len(names)
    for value, position in values.items():
        rows[position] += counts[value]
    kind = MULTI if "list" in reference.types else SINGLE
    if per_word:
        kind = PER_WORD
    return Labels(kind, list(names), values, rows, reference.rows, 0.0)


def _only_elsewhere(present: Counter[Item], values: dict[Item, int], flag: str) -> dict[Item, int]:
    """Returns the ids of labels that only other splits have: a rare label may be in one split."""
    others = [value for value in _sorted_values(present) if value not in values]
    if others:
        missing = f"the training data has no {_listed(others)}"
        warn(f"{flag}: {missing}: the model cannot learn such labels")
    return {value: len(values) + place for place, value in enumerate(others)}


def _several_numbers(
    seen: dict[str, SeenLabels], reference: SeenLabels, names: Sequence[str] | None, flag: str
) -> Labels:
    """Returns the labels of a regression: one number per row, or several with their names."""
    _check_numbers(seen, flag)
    rows = reference.rows
    several = [(row, times) for row, times in reference.counts.items() if isinstance(row, tuple)]
    width = max((len(row) for row, _ in several), default=1)
    _check_widths(seen, width)
    if width == 1:
        return Labels(REGRESSION, [], {}, [], rows, reference.total / rows)
    sums = [0.0] * width
    for row, times in several:
        for place in range(width):
            sums[place] += float(row[place]) * times
    if not names or len(names) != width:
        names = list(map(str, range(width)))
    return Labels(REGRESSION, list(names), {}, [], rows, [total / rows for total in sums])


def _check_widths(seen: dict[str, SeenLabels], width: int) -> None:
    for labels in seen.values():
        for row in labels.counts:
            if isinstance(row, tuple) and len(row) != width:
                what = f"{width} numbers per row, but here {len(row)}: {list(row)}"
                fix = "write the same number of values in every row; labels are texts"
                raise Refusal(what, labels.places[row], fix)


def _checkpoint_names(present: Counter[Item], trained: Labels | None) -> list[str] | None:
    """Returns the names of a checkpoint that is trained further, where they fit the data's labels.

    They fit where the labels are some of these names, or numbers from 0 or 1, one for each name.
    """
    if trained is None or not trained.names:
        return None
    if _folded(present) <= _folded(trained.names):
        return trained.names
    numbers = _integers(present)
    if numbers is None:
        return None
    least, most = min(numbers.values()), max(numbers.values())
    if least in (0, 1) and most - least + 1 == len(trained.names):
        return trained.names
    return None


def _folded(values: Iterable[Item]) -> set[str]:
    """Returns labels as texts without upper case."""
    return {str(value).lower() for value in values}


def _as_trained(
    names: Sequence[str], values: dict[Item, int], trained: Labels
) -> tuple[Sequence[str], dict[Item, int]]:
    """Returns a trained model's names and ids, where the data has the same classes in any order.

    The Hub's copies of MNLI begin with entailment, roberta-large-mnli with contradiction.
    """
    ids = _ids(map(str.lower, trained.names))
    differ_by_case = len(ids) < len(names)
    if _folded(names) == ids.keys() and not differ_by_case:
        if trained.is_trained_further:
            note(f"the classes are the checkpoint's, in its order: {_listed(trained.names)}")
        found: dict[Item, int] = {}
        for value, position in values.items():
            found[value] = ids[names[position].lower()]
        return trained.names, found
    if trained.is_trained_further and len(names) == len(ids):
        shown = f"{_listed(names)} are not its classes: {_listed(trained.names)}"
        note(f"the checkpoint's head is trained further for other classes: {shown}")
    return names, values


def _listed(names: Iterable[object], most: int = 5) -> str:
    """Returns the first names with commas between them."""
    shown = list(map(str, names))
    if len(shown) > most:
        shown = [*shown[:most], "…"]
    return ", ".join(shown)


def _check_one_type(labels: SeenLabels, flag: str) -> None:
    kinds = dict(labels.types)
    if "float" in kinds:
        kinds.pop("int", None)
    if len(kinds) > 1:
        (first, (value, place)), (second, (other, other_place)) = list(kinds.items())[:2]
        what = f"labels of mixed types: {value!r} ({first}, {place}) and {other!r} ({second})"
        raise Refusal(what, other_place, f"write all of {flag}'s values in one type")


def _looks_like_regression(labels: SeenLabels, are_named: bool) -> bool:
    """Whether labels are ratings: floats, unless classes are named, as in run_classification.

    The numbers of a CSV are texts: there a decimal point decides.
    """
    if "list" in labels.types:
        items = [item for value in labels.counts for item in items_of(value)]
        return bool(items) and all(isinstance(item, float) for item in items)
    if are_named:
        return False
    if "float" in labels.types:
        return True
    texts = [value for value in labels.counts if isinstance(value, str)]
    has_point = any("." in text for text in texts)
    return has_point and all(map(is_number, texts))


def _check_numbers(seen: dict[str, SeenLabels], flag: str) -> None:
    for labels in seen.values():
        for value, place in labels.types.values():
            if not isinstance(value, list) and not is_number(value):
                raise _not_a_number(value, place, flag)
        for item in labels.items():
            if not is_number(item):
                raise _not_a_number(item, labels.place(item), flag)


def _not_a_number(value: object, place: str, flag: str) -> Refusal:
    fix = f"regression needs a finite number in {flag}; for classes say --do_regression False"
    return Refusal(f"label {value!r} is not a number", place, fix)


def _sorted_values(counts: Counter[Item]) -> dict[Item, int]:
    """Returns the values with their ids: numbers in order, then texts in order."""
    return _ids(sorted(counts, key=_order))


def _order(value: Item) -> tuple[int, float, str]:
    parsed = number(value)
    if parsed is None:
        return (1, 0.0, str(value))
    return (0, parsed, str(value))


def _named_values(
    names: Sequence[str], present: Counter[Item], flag: str, by_position: bool, trained: bool
) -> dict[Item, int]:
    """Returns the labels with their ids, by the names of the classes.

    A text is its own name, whatever its case. A number, also a CSV's, has a place among the names.
    Where the names are a data set's own, one of its files may hold numbers and another one names.
    """
    _check_named_once(names)
    truth_values = _truth_values(names, present)
    if truth_values is not None:
        return truth_values
    numbers = _integers(present)
    if numbers is None or set(map(str, present)) <= set(names):
        return _values_by_name(names, present, by_position)
    places = _places(names, set(numbers.values()), flag, by_position, trained)
    kind = str if isinstance(next(iter(present)), str) else int
    found: dict[Item, int] = {}
    for integer, position in places.items():
        found[kind(integer)] = position
    for value, integer in numbers.items():
        if integer in places:
            found[value] = places[integer]
    return found


def _check_named_once(names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            fix = "name every class once, in order of id"
            raise Refusal(f"the class {name!r} is named twice", "--class_names", fix)


def _truth_values(names: Sequence[str], present: Counter[Item]) -> dict[Item, int] | None:
    """Returns the ids of the labels true and false, where two classes have other names, or None."""
    if len(names) != 2 or not _folded(present) <= {"true", "false"}:
        return None
    if not present.keys().isdisjoint(names):
        return None
    return {value: int(str(value).lower() == "true") for value in present}


def _values_by_name(
    names: Sequence[str], present: Counter[Item], by_position: bool
) -> dict[Item, int]:
    """Returns the labels with their ids.

    A label is the name of a class, perhaps in another case, or its position.
    """
    exact: dict[Item, int] = _ids(names)
    folded = _ids(map(str.lower, names))
    if len(folded) < len(names):
        folded = {}  # some names differ by case alone
    found = dict(exact)
    for value in present:
        text, place = str(value), _integer(value)
        if text in exact:
            found[value] = exact[text]
        elif text.lower() in folded:
            found[value] = folded[text.lower()]
        elif by_position and place is not None and place in range(len(names)):
            found[value] = place
    return found


def _places(
    names: Sequence[str], numbers: set[int], flag: str, by_position: bool, trained: bool
) -> dict[int, int]:
    """Returns the position of each number's name: 0 has the first name.

    Where there is one number for each name, the lowest number has the first name.
    """
    count, ordered = len(names), sorted(numbers)
    from_zero, from_one = _ids(range(count)), _ids(range(1, count + 1))
    may_be_from_zero = numbers <= from_zero.keys()
    are_from_zero = may_be_from_zero and 0 in numbers
    if by_position or are_from_zero or ordered[:2] == [0, 1]:
        return from_zero
    if len(numbers) == count:
        found = _ids(ordered)
    elif numbers <= from_one.keys() and count in numbers:
        found = from_one
    elif not may_be_from_zero:
        return from_zero
    elif trained:
        found = from_zero
    else:
        raise _where_do_names_start(count, ordered)
    pairs = [f"{integer} {names[position]}" for integer, position in found.items()]
    note(f"{flag}: the numbers are named in their order: {_listed(pairs)}")
    return found


def _where_do_names_start(count: int, ordered: Sequence[int]) -> Refusal:
    values = " ".join(f"{integer}=NAME" for integer in ordered[:3])
    question = "do the names start at 0 or at 1?"
    what = f"{count} class names for the labels {_listed(ordered)}: {question}"
    return Refusal(what, "--class_names", f"name each value: --label_map {values} …")


def _integers(values: Iterable[Item]) -> dict[Item, int] | None:
    """Returns the whole number of each value, or None where one has none."""
    found: dict[Item, int] = {}
    for value in values:
        integer = _integer(value)
        if integer is None:
            return None
        found[value] = integer
    return found


def _integer(value: Item) -> int | None:
    """Returns the whole number that a value is, or spells without a point."""
    if isinstance(value, str):
        return int(value) if value.removeprefix("-").isdecimal() else None
    if number(value) is None or number(value) != int(value):
        return None
    return int(value)


def _check_classes(
    values: dict[Item, int], seen: dict[str, SeenLabels], flag: str, per_word: bool
) -> None:
    if len(values) < 2:
        raise _single_class(next(iter(values), None), seen, flag)
    rows = seen["train"].items().total() if "train" in seen else 0
    if len(values) > 20 and rows and len(values) > rows / 2:
        what = f"{len(values)} different labels in {rows} rows are too many for classes"
        fix = "name the label's column, or say --do_regression for ratings"
        if per_word:
            what = f"{len(values)} different labels of {rows} words are too many for classes"
            fix = "name the column of the labels"
        raise Refusal(what, flag, fix)
    for split, labels in seen.items():
        for value in labels.items():
            if value not in values:
                raise _unknown_label(value, split, labels.place(value), values)


def _single_class(only: Item | None, seen: dict[str, SeenLabels], flag: str) -> Refusal:
    """Returns the refusal of labels that are all the same, or of a single class name."""
    places: list[str] = []
    if only is not None:
        places += [labels.place(only) for labels in seen.values() if only in labels.items()]
    if only is not None and not places:
        fix = "name all classes, in order of id"
        return Refusal(f"{only!r} is the only class", "--class_names", fix)
    where = places[0] if places else flag
    fix = "classification needs two classes: check the label's column and --max_train_samples"
    return Refusal(f"all labels are {only!r}", where, fix)


def _unknown_label(value: Item, split: str, place: str, values: dict[Item, int]) -> Refusal:
    """Returns the refusal of a label that training does not have."""
    close = nearest(str(value), map(str, values))
    fix = f"known labels: {', '.join(map(repr, list(values)[:5]))}"
    if close:
        fix = f"did you mean {close!r}?"
    fix += f"; --label_map {value}=NAME … names another"
    return Refusal(f"label {value!r} in {split} is unknown to training", place, fix)
