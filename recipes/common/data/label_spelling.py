"""Finds the values that labels mean, as people write them.

People write lists in a cell, vectors of 0 and 1, and one column per label. A cell is read by itself
first (`cell`). What a whole column means is decided once all of it was seen (`find`), the same for
every split. A note says so wherever that is not what is written word by word.
"""

import ast
import json
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from typing import TypeGuard

from recipes.common.data.seen_labels import (
    RATINGS,
    Counted,
    Item,
    SeenLabels,
    Value,
    is_missing,
    is_number,
    items_of,
    key,
    number,
)
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note, warn

DELIMITERS = (",", ";", "|", "，", "；", "、")
WHOLE = "none"  # --label_delimiter none: a cell is one label, whatever it holds
# How pandas and Excel write an empty cell. No class is called so.
ALWAYS_MISSING = {"nan", "nat", "<na>", "#n/a"}
DOUBTFUL = {"null", "na", "n/a"}  # an empty cell, or a class
MISSING_AMONG_NUMBERS = ALWAYS_MISSING | DOUBTFUL | {"none"}
OPENING, CLOSING = ("[", "(", "{"), ("]", ")", "}")
LONGEST_LIST = 10_000  # characters of a cell that is looked at as a list
# How numpy prints numbers.
ARRAY = re.compile(r"\[\s*[-+.\d]+(?:e[-+]?\d+)?(?:\s+[-+.\d]+(?:e[-+]?\d+)?)*\s*\]", re.IGNORECASE)
BETWEEN_TEXTS = re.compile(r"(?<=['\"])\s+(?=['\"])")
DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?")
WITH_POINT = re.compile(r"[-+]?\d+\.0*")
TRUTH_VALUES = {"true": 1, "false": 0, "yes": 1, "no": 0}
BITS = {0.0: 0, 1.0: 1}

Row = tuple[Item, ...]  # several labels
Listed = Value | Row | list[str]  # a value, a list where it spells one


@dataclass(frozen=True)
class Asked:
    """What the user, the data set or a trained model says about the labels."""

    names: Sequence[str] = ()  # of the classes
    known: Sequence[str] = ()  # the names of a checkpoint's classes, which need not be these
    do_regression: bool | None = None
    columns: Sequence[str] = ()  # where each label has a column of its own
    delimiter: str | None = None
    map: dict[str, str] = field(default_factory=dict)
    by_position: bool = False  # the data set itself names its classes 0, 1, …


@dataclass(frozen=True)
class Spelling:
    """The way in which a column writes its labels: what a cell becomes, step by step."""

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
            return [name for name, item in zip(self.names, found, strict=True) if _bit(item)]
        return [item for item in dict.fromkeys(map(self._one, found)) if item is not None]

    def listed(self, value: Value | Counted) -> Listed:
        """Returns the list of labels that a text holds; anything but a text stays as it is."""
        if not isinstance(value, str):
            return value
        if self.decimal_comma:
            return value.replace(",", ".")
        if self.bracketed and _in_brackets(value):
            return _split(value[1:-1], ",")
        if self.delimiter:
            return _split(value, self.delimiter)
        return [value] if self.wraps else value

    def _one(self, value: Item) -> Item | None:
        if self.map:
            return self.map.get(_word(value))
        if not self.whole:
            return value
        if isinstance(value, str):
            return _word(value)
        return int(value)


def cell(value: object) -> object:
    """Returns what a cell says by itself.

    It is a text without the blanks around it, a list where one is written out, or None. What can be
    no label stays as it is.
    """
    if isinstance(value, str):
        text = value.strip()
        found = written_list(text)
        if found is not None:
            return cell(found)
        return text or None
    if isinstance(value, list):
        return [cell(item) for item in value if not _is_blank(item)]
    return None if is_missing(value) else value


def _is_blank(item: object) -> bool:
    return isinstance(item, str) and not item.strip()


def written_list(text: str) -> list[object] | None:
    """Returns the list that a text spells, or None where it spells none.

    It is written as in JSON, in Python, or in numpy, which writes no commas.
    """
    if not text.startswith(OPENING) or not text.endswith(CLOSING) or len(text) > LONGEST_LIST:
        return None
    if ARRAY.fullmatch(text):
        return list(map(_number, text[1:-1].split()))
    text = BETWEEN_TEXTS.sub(", ", text)  # Python would read ['a' 'b'] as one text
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):
                found = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list | tuple):
            return list(found)
        if isinstance(found, set):
            return sorted(found, key=str)
    return None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def mapping(words: Sequence[str] | None) -> dict[str, str]:
    """Returns the values of --label_map with their names.

    "1,2=negative 4,5=positive" -> {"1": "negative", "2": "negative", "4": "positive", …}.
    "0=bad,1=good" -> {"0": "bad", "1": "good"}.
    """
    groups: list[str] = []
    for word in words or ():
        pairs = word.split(",")
        if all(pair.count("=") == 1 for pair in pairs):
            groups += pairs
        else:
            groups += shlex.split(word)
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


def find(seen: dict[str, SeenLabels], asked: Asked, flag: str) -> Spelling:
    """Returns how these splits write their labels.

    Refuses what can be read in two ways, and says what is read otherwise than it is written.
    """
    column = _Column(seen, asked, flag)
    if asked.columns:
        return column.one_column_each()
    if column.has_decimal_commas():
        return Spelling(column.missing, decimal_comma=True)
    delimiter = column.delimiter()
    if delimiter or column.has_lists:
        return column.several_per_row(delimiter)
    return column.one_per_row()


class _Column:
    """All that was seen of a column of labels. It decides what the column means."""

    def __init__(self, seen: dict[str, SeenLabels], asked: Asked, flag: str):
        self.seen, self.asked, self.flag = seen, asked, flag
        self.counts: Counter[Counted] = Counter()
        for labels in seen.values():
            self.counts.update(labels.counts)
        self.known = set(map(str.lower, (*asked.names, *asked.known, *asked.map)))
        self.missing: frozenset[Counted] = frozenset()
        if not asked.columns:
            self.missing = frozenset([*self._missing(), *self._unscored()])
        self.values = [value for value in self.counts if value not in self.missing]
        self.texts = [value for value in self.values if isinstance(value, str)]
        self.has_lists = any(isinstance(value, tuple) for value in self.values)

    def one_column_each(self) -> Spelling:
        """Returns the spelling of one column per label.

        Where all are 0 and 1, a row has several labels. Otherwise it has several numbers.
        """
        names = tuple(self.asked.columns)
        unscored: set[Counted] = {(-1,) * len(names), ("-1",) * len(names)}  # Kaggle's test rows
        missing = frozenset(unscored.intersection(self.counts))
        rows = {row: row for row in self.counts if row not in missing}
        if not self.asked.do_regression and _are_bits(chain.from_iterable(map(items_of, rows))):
            return Spelling(missing, names=names)
        self._check_numbers(rows)
        return Spelling(missing, names=names, numbers=True)

    def several_per_row(self, delimiter: str) -> Spelling:
        """Returns the spelling of lists.

        They are vectors of 0 and 1, several numbers, or the labels themselves.
        """
        in_brackets = list(map(_in_brackets, self.texts))
        listing = Spelling(
            self.missing,
            bracketed=not delimiter and any(in_brackets),
            delimiter=delimiter,
            wraps=not delimiter and not all(in_brackets),
        )
        lists = {value: listing.listed(value) for value in self.values}
        rows = [tuple(found) for found in lists.values() if isinstance(found, list | tuple)]
        if self._are_numbers(rows):
            self._check_numbers(lists)
            return replace(listing, names=self._names_of_numbers(rows[0]), numbers=True)
        if _are_vectors(rows):
            return replace(listing, names=self._names_of_places(rows[0]))
        if listing.wraps:
            self._say("a text beside lists is a list of one")
        items = list(dict.fromkeys(chain.from_iterable(rows)))
        whole = any(map(_has_point, items)) and all(map(_is_whole, items))
        return replace(listing, whole=whole, map=self._map(items))

    def one_per_row(self) -> Spelling:
        """Returns the spelling of one class, or one number, per row."""
        return Spelling(self.missing, whole=self._whole(), map=self._map(self.values))

    def has_decimal_commas(self) -> bool:
        """Whether 3,5 is a number; refuses it where it may be two labels."""
        asked = self.asked
        written = [text for text in self.texts if "," in text]
        are_classes = asked.delimiter or asked.names or asked.map or asked.do_regression is False
        if not written or are_classes or len(self.texts) < len(self.values):
            return False
        if not all(map(DECIMAL_COMMA.fullmatch, self.texts)):
            return False
        if not asked.do_regression:
            what = f"{written[0]!r} is a decimal comma, or two labels"
            fix = "say --do_regression for numbers, or --label_delimiter , for several labels"
            raise Refusal(what, self._place(written[0]), fix)
        self._say(f"{written[0]} is read as {written[0].replace(',', '.')}")
        return True

    def delimiter(self) -> str:
        """Returns what is between the labels of a cell, or an empty string.

        It is what the user says, or a delimiter whose parts repeat from cell to cell.
        """
        wanted = self.asked.delimiter
        if wanted == WHOLE or self.has_lists:
            return ""
        if wanted:
            if not any(wanted in text for text in self.texts):
                warn(f"no label holds {wanted!r}: --label_delimiter has no effect")
            return wanted
        for delimiter in DELIMITERS:
            if self._divides(delimiter):
                return delimiter
        return ""

    def _divides(self, delimiter: str) -> bool:
        """Whether cells are several labels with this delimiter between them."""
        joined = [text for text in self.texts if delimiter in text]
        if set(map(str.lower, joined)) <= self.known:
            return False
        cells = [_split(text, delimiter) for text in self.texts]
        parts = set(chain.from_iterable(cells))
        are_known = set(map(str.lower, parts)) <= self.known
        are_vectors = len(set(map(len, cells))) == 1 and all(map(is_number, parts))
        if are_known or are_vectors or len(parts) <= len(self.texts):
            keeps = f"--label_delimiter {WHOLE} keeps each whole"
            self._say(
                f"labels such as {joined[0]!r} are several, divided by {delimiter!r} ({keeps})"
            )
            return True
        reads = f"--label_delimiter '{delimiter}' reads several from such a cell"
        self._say(f"{joined[0]!r} is one label; {reads}")
        return False

    def _missing(self) -> list[str]:
        """Returns the spellings that mean that there is no label.

        Warns of a class that may be such a spelling.
        """
        spellings = MISSING_AMONG_NUMBERS - self.known
        found = []
        for value in self.counts:
            if isinstance(value, str) and value.lower() in spellings:
                found.append(value)
        others = self.counts.keys() - found
        among_numbers = bool(others) and all(map(is_number, others))
        missing, doubtful = [], []
        for text in found:
            if among_numbers or text.lower() in ALWAYS_MISSING:
                missing.append(text)
            elif text.lower() in DOUBTFUL:
                doubtful.append(text)
        for text in missing:
            self._say(f"labels spelt {text!r} count as missing")
        for text in doubtful:
            advice = "leave the cell empty where a row has no label"
            warn(f"{self.flag}: {text!r} is a class of its own; {advice}")
        return missing

    def _unscored(self) -> list[Item]:
        """Returns -1 where it means that there is no label.

        GLUE writes it for the labels of its test sets, SNLI where its readers did not agree. It is
        a label where a class is called so, where other splits have it, and among other ratings.
        """
        if "-1" in self.known or self._are_test_ratings():
            return []
        elsewhere: set[Counted] = set()
        for split, labels in self.seen.items():
            if split != "test" and not self.asked.by_position:
                elsewhere.update(labels.counts)
        only_in_test = self.counts.keys() - elsewhere
        return [value for value in (-1, "-1") if value in only_in_test]

    def _are_test_ratings(self) -> bool:
        if "test" not in self.seen:
            return False
        counts = self.seen["test"].counts
        return len(counts) > 1 and any(map(_has_point, counts))

    def _whole(self) -> bool:
        """Whether numbers with a point are whole ones.

        pandas writes 1 as 1.0 where a row of the column has no number.
        """
        pointed = list(filter(_has_point, self.values))
        if not pointed or len(self.values) >= RATINGS or not all(map(_is_whole, self.values)):
            return False
        asked = self.asked
        if asked.do_regression is not None or asked.names or asked.map:
            return not asked.do_regression
        are_two = set(map(number, self.values)) <= {0.0, 1.0}
        if are_two or len(pointed) < len(self.values) or self._has_gap():
            reads = "--do_regression reads ratings"
            self._say(f"{pointed[0]} is the class {_word(pointed[0])}: {reads}")
            return True
        self._say(f"{pointed[0]} is a rating: --do_regression false reads classes")
        return False

    def _has_gap(self) -> bool:
        """Whether a split with such numbers has rows without a label."""
        for labels in self.seen.values():
            if labels.missing and any(map(_has_point, labels.counts)):
                return True
        return False

    def _are_numbers(self, rows: list[Row]) -> bool:
        """Whether lists are several numbers per row, and not labels or vectors of 0 and 1."""
        if self.asked.do_regression is not None:
            return self.asked.do_regression
        items = list(chain.from_iterable(rows))
        if not all(map(_is_plain_number, items)) or _are_bits(items):
            return False
        if len(set(map(len, rows))) > 1:
            return False
        return any(map(_repeats, rows)) or not all(map(_is_whole, items))

    def _names_of_numbers(self, row: Row) -> tuple[str, ...]:
        width, names = len(row), tuple(self.asked.names)
        if not self.asked.do_regression and width > 1:
            self._say(f"lists such as {_shown(row)} are {width} numbers per row")
        return names if len(names) == width else ()

    def _names_of_places(self, row: Row) -> tuple[str, ...]:
        """Returns the labels that the places of a vector stand for."""
        width, names = len(row), tuple(self.asked.names)
        if names and len(names) != width:
            what = f"{len(names)} class names for vectors of {width} places"
            fix = f"name {width} classes, in the order of the vectors' places"
            raise Refusal(what, "--class_names", fix)
        if not names and len(self.asked.known) == width:
            names = tuple(self.asked.known)
        if not names:
            names = tuple(map(str, range(width)))
        chosen = ", ".join(compress(names, map(_bit, row))) or "none"
        self._say(f"{_shown(row)} means the labels {chosen} (--class_names names the places)")
        return names

    def _map(self, values: Iterable[Counted]) -> dict[str, str]:
        """Returns --label_map by the values as they are read; warns of those that no row has."""
        found = {_word(value): name for value, name in self.asked.map.items()}
        present = set(map(_word, values))
        for value in found:
            if value not in present:
                close = nearest(value, present)
                hint = f": did you mean {close!r}?" if close else ""
                warn(f"no row has the label {value!r} of --label_map{hint}")
        return found

    def _check_numbers(self, rows: Mapping[Counted, Listed]) -> None:
        """Refuses a row that is not as many numbers as the first list.

        `rows` are what is read, by the value as it was seen.
        """
        lists = (row for row in rows.values() if isinstance(row, list | tuple))
        width = len(next(lists, ()))
        for value, row in rows.items():
            if not isinstance(row, list | tuple) or len(row) != width:
                shown = _shown(row) if isinstance(row, list | tuple) else row
                what = f"{width} numbers per row, but here {shown}"
                fix = "write the same number of values in every row"
                raise Refusal(what, self._place(value), fix)
            for item in row:
                if not is_number(item):
                    fix = f"write 0 or 1, or numbers, in {self.flag}"
                    raise Refusal(f"{item!r} is not a number", self._place(value), fix)

    def _place(self, value: Counted) -> str:
        """Returns where a value occurs first."""
        for labels in self.seen.values():
            if value in labels.places:
                return labels.places[value]
        return self.flag

    def _say(self, what: str) -> None:
        note(f"{self.flag}: {what}")


def warn_of_case(seen: dict[str, SeenLabels], flag: str) -> None:
    """Warns of classes that differ by case alone: most often that is a mistake of writing."""
    values: Counter[Item] = Counter()
    for labels in seen.values():
        values.update(labels.items())
    folded: dict[str, Item] = {}
    for value in values:
        other = folded.setdefault(str(value).lower(), value)
        if other != value:
            advice = f"--label_map '{other},{value}={other}' makes them one"
            warn(f"{flag}: {other!r} and {value!r} are two classes; {advice}")


def _in_brackets(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _split(text: str, delimiter: str) -> list[str]:
    parts = []
    for part in text.split(delimiter):
        part = part.strip().strip("'\"").strip()
        if part:
            parts.append(part)
    return parts


def _bit(item: Item) -> int | None:
    """Returns 0 or 1, however it is written; None for anything else."""
    if isinstance(item, str) and item.lower() in TRUTH_VALUES:
        return TRUTH_VALUES[item.lower()]
    found = number(item)
    return None if found is None else BITS.get(found)


def _are_bits(items: Iterable[Item]) -> bool:
    return all(_bit(item) is not None for item in items)


def _are_vectors(rows: list[Row]) -> bool:
    """Whether lists are vectors of 0 and 1, of one length."""
    widths = set(map(len, rows))
    return len(widths) == 1 and max(widths) > 1 and _are_bits(chain.from_iterable(rows))


def _repeats(row: Row) -> bool:
    """Whether a number occurs twice in a row."""
    return len(set(map(float, row))) < len(row)


def _is_plain_number(item: Item) -> bool:
    return not isinstance(item, bool) and is_number(item)


def _has_point(value: Counted) -> TypeGuard[str | float]:
    if isinstance(value, str):
        return bool(WITH_POINT.fullmatch(value))
    return isinstance(value, float)


def _is_whole(value: Counted) -> bool:
    found = None if isinstance(value, bool) else number(value)
    return found is not None and found.is_integer()


def _word(value: Counted) -> str:
    """Returns a value as --label_map spells it: 1 for 1, 1.0 and "1.0"."""
    if _has_point(value) and _is_whole(value):
        return str(int(float(value)))
    return str(value)


def _shown(row: Sequence[Item]) -> str:
    return f"[{', '.join(map(str, row))}]"
