"""Labels as people write them -> the values that they mean: lists in a cell, vectors of 0 and 1, one column per label.

A cell is read by itself first (`cell`). What a whole column means is decided once all of it was seen (`find`), the same
for every split, and is said in a note wherever it is not what stands there word by word.
"""

import ast
import json
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recipes.common.data.labels import RATINGS, Seen, is_missing, key, number
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note, warn

DELIMITERS = (",", ";", "|", "，", "；", "、")
WHOLE = "none"  # --label_delimiter none: a cell is one label, whatever it holds
ALWAYS_MISSING = {
    "nan",
    "nat",
    "<na>",
    "#n/a",
}  # how pandas and Excel write an empty cell; no class is called so
DOUBTFUL = {"null", "na", "n/a"}  # an empty cell, or a class
MISSING_AMONG_NUMBERS = ALWAYS_MISSING | DOUBTFUL | {"none"}
OPENING, CLOSING = ("[", "(", "{"), ("]", ")", "}")
LONGEST_LIST = 10_000  # characters of a cell that is looked at as a list
ARRAY = re.compile(
    r"\[\s*[-+.\d]+(?:e[-+]?\d+)?(?:\s+[-+.\d]+(?:e[-+]?\d+)?)*\s*\]", re.IGNORECASE
)  # numpy's print
DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?")
WITH_POINT = re.compile(r"[-+]?\d+\.0*")


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
    """How a column writes its labels: what a cell becomes, step by step."""

    missing: frozenset = frozenset()
    bracketed: bool = False  # [food, price] without quotes
    delimiter: str = ""
    wraps: bool = False  # a text among lists is a list of one
    names: tuple[str, ...] = ()  # of the places of a vector of 0 and 1
    numbers: bool = False  # every item is a number
    decimal_comma: bool = False
    whole: bool = False  # 1.0 is the class 1
    map: dict[str, str] = field(default_factory=dict)

    def read(self, value: Any) -> Any:
        """The value that a cell means; None where it means that there is none."""
        if value is None or (self.missing and key(value) in self.missing):
            return None
        value = self.listed(value)
        if self.numbers:
            found = [float(item) for item in value]
            return found if len(found) > 1 else found[0]
        if self.names:
            return [name for name, item in zip(self.names, value, strict=True) if _bit(item)]
        if isinstance(value, list | tuple):
            found = [self._one(item) for item in value]
            return [item for item in dict.fromkeys(found) if item is not None]
        return self._one(value)

    def listed(self, value: Any) -> Any:
        """The list of labels that a text holds; what is no text stays as it is."""
        if not isinstance(value, str):
            return value
        if self.decimal_comma:
            return value.replace(",", ".")
        if self.bracketed and _in_brackets(value):
            return _split(value[1:-1], ",")
        if self.delimiter:
            return _split(value, self.delimiter)
        return [value] if self.wraps else value

    def _one(self, value: Any) -> Any:
        if self.map:
            return self.map.get(_word(value))
        if not self.whole:
            return value
        return _word(value) if isinstance(value, str) else int(value)


def cell(value: Any) -> Any:
    """What a cell says by itself: a text without the blanks around it, a list where one is written out, or None."""
    if isinstance(value, str):
        text = value.strip()
        found = _written_list(text)
        return (text or None) if found is None else cell(found)
    if isinstance(value, list):
        return [cell(item) for item in value if not isinstance(item, str) or item.strip()]
    return None if is_missing(value) else value


def _written_list(text: str) -> list | None:
    """The list that a text spells: JSON's, Python's, or numpy's, which has no commas; None where it is none."""
    if not text.startswith(OPENING) or not text.endswith(CLOSING) or len(text) > LONGEST_LIST:
        return None
    if ARRAY.fullmatch(text):
        return [_number(item) for item in text[1:-1].split()]
    joined = re.sub(
        r"(?<=['\"])\s+(?=['\"])", ", ", text
    )  # Python would read ['a' 'b'] as one text
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):
                found = parse(joined)
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
    """--label_map "1,2=negative 4,5=positive" -> {"1": "negative", "2": "negative", "4": "positive", …}."""
    found: dict[str, str] = {}
    groups = [
        group
        for word in words or ()
        for group in ([word] if word.count("=") == 1 else shlex.split(word))
    ]
    for group in groups:
        values, equals, name = (part.strip() for part in group.rpartition("="))
        if not equals or not values or not name:
            fix = 'write VALUES=NAME, for example --label_map "1,2=negative 4,5=positive"'
            raise Refusal(f"{group!r} names no class for a value", "--label_map", fix)
        for value in map(str.strip, values.split(",")):
            if found.setdefault(value, name) != name:
                fix = "name every value once"
                raise Refusal(
                    f"{value!r} is both {found[value]!r} and {name!r}", "--label_map", fix
                )
    return found


def find(seen: dict[str, Seen], asked: Asked, flag: str) -> Spelling:
    """How these splits write their labels; refuses what can be read in two ways, and says what is read otherwise."""
    column = _Column(seen, asked, flag)
    if asked.columns:
        return column.one_each()
    if column.has_decimal_commas():
        return Spelling(column.missing, decimal_comma=True)
    delimiter = column.delimiter()
    if delimiter or any(isinstance(value, tuple) for value in column.values):
        return column.several_a_row(delimiter)
    return column.one_a_row()


class _Column:
    """All that was seen of a column of labels, and what follows from it."""

    def __init__(self, seen: dict[str, Seen], asked: Asked, flag: str):
        self.seen, self.asked, self.flag = seen, asked, flag
        self.counts: Counter = Counter()
        for labels in seen.values():
            self.counts.update(labels.counts)
        self.known = {name.lower() for name in (*asked.names, *asked.known, *asked.map)}
        self.missing = (
            frozenset() if asked.columns else frozenset([*self._missing(), *self._unscored()])
        )
        self.values = [value for value in self.counts if value not in self.missing]
        self.texts = [value for value in self.values if isinstance(value, str)]

    def one_each(self) -> Spelling:
        """One column per label: 0 and 1 are several labels a row, other numbers are numbers."""
        width = len(self.asked.columns)
        unscored = (
            frozenset({(-1,) * width, ("-1",) * width}) & self.counts.keys()
        )  # Kaggle's test rows
        rows = [row for row in self.counts if row not in unscored]
        if self.asked.do_regression or any(_bit(item) is None for row in rows for item in row):
            self._check_numbers({row: row for row in rows})
            return Spelling(unscored, names=tuple(self.asked.columns), numbers=True)
        return Spelling(unscored, names=tuple(self.asked.columns))

    def several_a_row(self, delimiter: str) -> Spelling:
        """Lists: vectors of 0 and 1, several numbers, or the labels themselves."""
        bracketed = not delimiter and any(_in_brackets(text) for text in self.texts)
        wraps = not delimiter and any(not (bracketed and _in_brackets(text)) for text in self.texts)
        listing = Spelling(self.missing, bracketed=bracketed, delimiter=delimiter, wraps=wraps)
        lists = {value: listing.listed(value) for value in self.values}
        rows = [tuple(found) for found in lists.values() if isinstance(found, list | tuple)]
        if self._are_numbers(rows):
            self._check_numbers(lists)
            if not self.asked.do_regression and len(rows[0]) > 1:
                self._say(f"lists such as {_shown(rows[0])} are {len(rows[0])} numbers a row")
            names = tuple(self.asked.names) if len(self.asked.names) == len(rows[0]) else ()
            return replace(listing, names=names, numbers=True)
        if self._are_vectors(rows):
            return replace(listing, names=self._names_of_places(rows))
        if wraps:
            self._say("a text beside lists is a list of one")
        items = list(dict.fromkeys(item for row in rows for item in row))
        whole = any(map(_has_point, items)) and all(map(_is_whole, items))
        return replace(listing, whole=whole, map=self._map(items))

    def one_a_row(self) -> Spelling:
        """One class, or one number, a row."""
        return Spelling(self.missing, whole=self._whole(), map=self._map(self.values))

    def has_decimal_commas(self) -> bool:
        """Whether 3,5 is a number; refused where it may be two labels."""
        written = [text for text in self.texts if "," in text]
        asked = self.asked
        if (
            not written
            or asked.delimiter
            or asked.names
            or asked.map
            or asked.do_regression is False
        ):
            return False
        if not all(DECIMAL_COMMA.fullmatch(text) for text in self.texts) or len(self.texts) < len(
            self.values
        ):
            return False
        if not asked.do_regression:
            fix = "say --do_regression for numbers, or --label_delimiter , for several labels a row"
            raise Refusal(
                f"{written[0]!r} is a decimal comma, or two labels", self._place(written[0]), fix
            )
        self._say(f"{written[0]} is read as {written[0].replace(',', '.')}")
        return True

    def delimiter(self) -> str:
        """What stands between the labels of a cell: what the user says, or where the parts repeat from cell to cell."""
        wanted = self.asked.delimiter
        if wanted == WHOLE or any(isinstance(value, tuple) for value in self.values):
            return ""
        if wanted:
            if not any(wanted in text for text in self.texts):
                warn(f"no label holds {wanted!r}: --label_delimiter has no effect")
            return wanted
        return next((one for one in DELIMITERS if self._divides(one)), "")

    def _divides(self, delimiter: str) -> bool:
        joined = [text for text in self.texts if delimiter in text]
        if not joined or all(text.lower() in self.known for text in joined):
            return False
        split = [_split(text, delimiter) for text in self.texts]
        parts = {part for cell in split for part in cell}
        known = {part.lower() for part in parts} <= self.known
        vectors = len({len(cell) for cell in split}) == 1 and all(
            number(part) is not None for part in parts
        )
        if known or vectors or len(parts) <= len(self.texts):
            keeps = f"--label_delimiter {WHOLE} keeps each whole"
            self._say(
                f"labels such as {joined[0]!r} are several, divided by {delimiter!r} ({keeps})"
            )
            return True
        self._say(
            f"{joined[0]!r} is one label; --label_delimiter '{delimiter}' reads several from such a cell"
        )
        return False

    def _missing(self) -> list[str]:
        """The spellings that mean that there is no label; a class that may be one is pointed out."""
        spelt = {value: value.lower() for value in self.counts if isinstance(value, str)}
        found = [value for value in spelt if spelt[value] in MISSING_AMONG_NUMBERS - self.known]
        others = [value for value in self.counts if value not in found]
        among_numbers = bool(others) and all(number(value) is not None for value in others)
        missing = [value for value in found if among_numbers or spelt[value] in ALWAYS_MISSING]
        for value in missing:
            self._say(f"labels spelt {value!r} count as missing")
        for value in found:
            if value not in missing and spelt[value] in DOUBTFUL:
                warn(
                    f"{self.flag}: {value!r} is a class of its own; leave the cell empty where it means none"
                )
        return missing

    def _unscored(self) -> list[Any]:
        """GLUE writes -1 for the labels of its test sets, SNLI where its readers did not agree: where no class is
        called so, these are no labels. Among other ratings it is one."""
        own = (
            []
            if self.asked.by_position
            else [labels.counts for name, labels in self.seen.items() if name != "test"]
        )
        found = self.seen["test"].counts if "test" in self.seen else {}
        rated = len(found) > 1 and any(
            _has_point(value) or isinstance(value, float) for value in found
        )
        spelt = [
            value
            for value in (-1, "-1")
            if value in self.counts and not any(value in counts for counts in own)
        ]
        return [] if rated or "-1" in self.known else spelt

    def _whole(self) -> bool:
        """Whether numbers with a point are whole ones: pandas writes 1 as 1.0 where a row of the column has none."""
        pointed = [value for value in self.values if _has_point(value)]
        if not pointed or not all(map(_is_whole, self.values)) or len(self.values) >= RATINGS:
            return False
        asked = self.asked
        if asked.do_regression or asked.names or asked.map or asked.do_regression is False:
            return not asked.do_regression
        gap = any(
            labels.missing and any(map(_has_point, labels.counts)) for labels in self.seen.values()
        )
        of_two = {float(value) for value in self.values} <= {0.0, 1.0}
        whole = gap or of_two or len(pointed) < len(self.values)
        shown = f"{pointed[0]} is the class {_word(pointed[0])}: --do_regression reads ratings"
        self._say(
            shown if whole else f"{pointed[0]} is a rating: --do_regression false reads classes"
        )
        return whole

    def _are_numbers(self, rows: list[tuple]) -> bool:
        items = [item for row in rows for item in row]
        numeric = all(number(item) is not None and not isinstance(item, bool) for item in items)
        if (
            self.asked.do_regression
            or not items
            or not numeric
            or len({len(row) for row in rows}) > 1
        ):
            return bool(self.asked.do_regression)
        broken = any(not _is_whole(item) for item in items)
        repeated = any(len({float(item) for item in row}) < len(row) for row in rows)
        bits = all(_bit(item) is not None for item in items)
        return self.asked.do_regression is None and not bits and (broken or repeated)

    def _are_vectors(self, rows: list[tuple]) -> bool:
        widths = {len(row) for row in rows}
        return (
            len(widths) == 1
            and max(widths) > 1
            and all(_bit(item) is not None for row in rows for item in row)
        )

    def _names_of_places(self, rows: list[tuple]) -> tuple[str, ...]:
        width, names = len(rows[0]), tuple(self.asked.names)
        if names and len(names) != width:
            fix = f"name {width} classes, in the order of the vectors' places"
            raise Refusal(
                f"{len(names)} class names for vectors of {width} places", "--class_names", fix
            )
        names = names or (
            tuple(self.asked.known)
            if len(self.asked.known) == width
            else tuple(map(str, range(width)))
        )
        chosen = [name for name, item in zip(names, rows[0], strict=True) if _bit(item)]
        self._say(
            f"{_shown(rows[0])} means the labels {', '.join(chosen) or 'none'} (--class_names names the places)"
        )
        return names

    def _map(self, values: Iterable[Any]) -> dict[str, str]:
        """--label_map by the values as they are read; warns of what it names in vain."""
        found = {_word(value): name for value, name in self.asked.map.items()}
        present = {_word(value) for value in values}
        for value in found.keys() - present:
            close = nearest(value, present)
            warn(
                f"no row has the label {value!r} of --label_map"
                + (f": did you mean {close!r}?" if close else "")
            )
        return found

    def _check_numbers(self, rows: dict[Any, Any]) -> None:
        """Refuses a row, by the value as it was seen, that is not as many numbers as the first one."""
        width = len(next(iter(rows.values())))
        for value, row in rows.items():
            if not isinstance(row, list | tuple) or len(row) != width:
                what = f"{width} numbers a row, but here {_shown(row) if isinstance(row, list | tuple) else row}"
                raise Refusal(what, self._place(value), "write as many numbers in every row")
            odd = next((item for item in row if number(item) is None), None)
            if odd is not None:
                raise Refusal(
                    f"{odd!r} is not a number",
                    self._place(value),
                    f"write 0 or 1, or numbers, in {self.flag}",
                )

    def _place(self, value: Any) -> str:
        """Where a value stands first."""
        return next(
            (seen.places[value] for seen in self.seen.values() if value in seen.places), self.flag
        )

    def _say(self, what: str) -> None:
        note(f"{self.flag}: {what}")


def warn_of_case(seen: dict[str, Seen], flag: str) -> None:
    """Classes that differ by case alone are two: most often that is a mistake of writing."""
    folded: dict[str, Any] = {}
    for value in dict.fromkeys(value for labels in seen.values() for value in labels.items()):
        other = folded.setdefault(str(value).lower(), value)
        if other != value:
            warn(
                f"{flag}: {other!r} and {value!r} are two classes; --label_map '{other},{value}={other}' makes them one"
            )


def _in_brackets(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _split(text: str, delimiter: str) -> list[str]:
    parts = (part.strip().strip("'\"").strip() for part in text.split(delimiter))
    return [part for part in parts if part]


def _bit(item: Any) -> int | None:
    """0 or 1, however it is written; None for anything else."""
    words = {"true": 1, "false": 0, "yes": 1, "no": 0}
    if isinstance(item, str) and item.lower() in words:
        return words[item.lower()]
    return (
        int(item)
        if not isinstance(item, str) and item in (0, 1)
        else {0.0: 0, 1.0: 1}.get(number(item))
    )


def _has_point(value: Any) -> bool:
    return isinstance(value, float) or (
        isinstance(value, str) and bool(WITH_POINT.fullmatch(value))
    )


def _is_whole(value: Any) -> bool:
    found = None if isinstance(value, bool) else number(value)
    return found is not None and found.is_integer()


def _word(value: Any) -> str:
    """A value as --label_map spells it: 1 for 1, 1.0 and "1.0"."""
    return str(int(float(value))) if _has_point(value) and _is_whole(value) else str(value)


def _shown(row: tuple) -> str:
    return f"[{', '.join(map(str, row))}]"
