"""Decides what a column of labels means, once all of it was seen.

People write lists in a cell, vectors of 0 and 1, and one column per label. The decision is the same
for every split. A note says where the meaning is not what is written word by word.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, compress

from recipes.common.data.label_cells import (
    Row,
    are_bits,
    are_vectors,
    bit,
    divided,
    has_point,
    in_brackets,
    is_plain_number,
    is_whole,
    repeats,
    shown_row,
    word,
)
from recipes.common.data.label_spelling import Asked, Listed, Spelling
from recipes.common.data.seen_labels import (
    RATINGS,
    Counted,
    Item,
    SeenLabels,
    is_number,
    items_of,
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
DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?")


def find(seen: dict[str, SeenLabels], asked: Asked, flag: str) -> Spelling:
    """Returns how these splits write their labels.

    Refuses labels that can be read in two ways. Notes what is read otherwise than it is written.
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
    """Holds all labels that were seen in a column, and decides what the column means."""

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
        if not self.asked.do_regression and are_bits(chain.from_iterable(map(items_of, rows))):
            return Spelling(missing, names=names)
        self._check_numbers(rows)
        return Spelling(missing, names=names, numbers=True)

    def several_per_row(self, delimiter: str) -> Spelling:
        """Returns the spelling of lists.

        They are vectors of 0 and 1, several numbers, or the labels themselves.
        """
        bracketed = list(map(in_brackets, self.texts))
        listing = Spelling(
            self.missing,
            bracketed=not delimiter and any(bracketed),
            delimiter=delimiter,
            wraps=not delimiter and not all(bracketed),
        )
        lists = {value: listing.listed(value) for value in self.values}
        rows = [tuple(found) for found in lists.values() if isinstance(found, list | tuple)]
        if self._are_numbers(rows):
            self._check_numbers(lists)
            return replace(listing, names=self._names_of_numbers(rows[0]), numbers=True)
        if are_vectors(rows):
            return replace(listing, names=self._names_of_places(rows[0]))
        if listing.wraps:
            self._say("a text beside lists is a list with one label")
        items = list(dict.fromkeys(chain.from_iterable(rows)))
        whole = any(map(has_point, items)) and all(map(is_whole, items))
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
        cells = [divided(text, delimiter) for text in self.texts]
        parts = set(chain.from_iterable(cells))
        are_known = set(map(str.lower, parts)) <= self.known
        are_numbers = len(set(map(len, cells))) == 1 and all(map(is_number, parts))
        if are_known or are_numbers or len(parts) <= len(self.texts):
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
        a label where a class has this name, where other splits have it, and among other ratings.
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
        return len(counts) > 1 and any(map(has_point, counts))

    def _whole(self) -> bool:
        """Whether numbers with a point are whole ones.

        pandas writes 1 as 1.0 where a row of the column has no number.
        """
        pointed = list(filter(has_point, self.values))
        if not pointed or len(self.values) >= RATINGS or not all(map(is_whole, self.values)):
            return False
        asked = self.asked
        if asked.do_regression is not None or asked.names or asked.map:
            return not asked.do_regression
        are_two = set(map(number, self.values)) <= {0.0, 1.0}
        if are_two or len(pointed) < len(self.values) or self._has_gap():
            reads = "--do_regression reads ratings"
            self._say(f"{pointed[0]} is the class {word(pointed[0])}: {reads}")
            return True
        self._say(f"{pointed[0]} is a rating: --do_regression false reads classes")
        return False

    def _has_gap(self) -> bool:
        """Whether a split with such numbers has rows without a label."""
        for labels in self.seen.values():
            if labels.missing and any(map(has_point, labels.counts)):
                return True
        return False

    def _are_numbers(self, rows: list[Row]) -> bool:
        """Whether lists are several numbers per row, and not labels or vectors of 0 and 1."""
        if self.asked.do_regression is not None:
            return self.asked.do_regression
        items = list(chain.from_iterable(rows))
        if not all(map(is_plain_number, items)) or are_bits(items):
            return False
        if len(set(map(len, rows))) > 1:
            return False
        return any(map(repeats, rows)) or not all(map(is_whole, items))

    def _names_of_numbers(self, row: Row) -> tuple[str, ...]:
        width, names = len(row), tuple(self.asked.names)
        if not self.asked.do_regression and width > 1:
            self._say(f"lists such as {shown_row(row)} are {width} numbers per row")
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
        chosen = ", ".join(compress(names, map(bit, row))) or "none"
        self._say(f"{shown_row(row)} means the labels {chosen} (--class_names names the places)")
        return names

    def _map(self, values: Iterable[Counted]) -> dict[str, str]:
        """Returns --label_map, spelt as `word` does; warns of values that no row has."""
        found = {word(value): name for value, name in self.asked.map.items()}
        present = set(map(word, values))
        for value in found:
            if value not in present:
                close = nearest(value, present)
                hint = f": did you mean {close!r}?" if close else ""
                warn(f"no row has the label {value!r} of --label_map{hint}")
        return found

    def _check_numbers(self, rows: Mapping[Counted, Listed]) -> None:
        """Refuses a row with another number of values than the first, or a value that is no number.

        `rows` maps each value as it was seen to the values that are read from it.
        """
        lists = (row for row in rows.values() if isinstance(row, list | tuple))
        width = len(next(lists, ()))
        for value, row in rows.items():
            if not isinstance(row, list | tuple) or len(row) != width:
                shown = shown_row(row) if isinstance(row, list | tuple) else row
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
    """Warns of classes that differ by case alone: most often that is a typing error."""
    values: Counter[Item] = Counter()
    for labels in seen.values():
        values.update(labels.items())
    folded: dict[str, Item] = {}
    for value in values:
        other = folded.setdefault(str(value).lower(), value)
        if other != value:
            advice = f"--label_map '{other},{value}={other}' makes them one"
            warn(f"{flag}: {other!r} and {value!r} are two classes; {advice}")
