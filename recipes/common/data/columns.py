"""Chooses the columns that a task reads, and the kind of value in each of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow

from recipes.common.config import flags
from recipes.common.data import csv_rows
from recipes.common.data.column_kinds import LABEL, TEXT, Kind
from recipes.common.data.sources import Source
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note

# Names that people give to what a recipe calls text and label, for "did you mean".
SYNONYMS = {
    "text": ("review", "sentence", "content", "body", "comment", "document", "tweet"),
    "label": ("labels", "class", "sentiment", "category", "rating", "stars", "score", "target"),
}
# The names that splits, predictions.jsonl and tokenizers give to columns of their own.
RENAMED = " (column)"
OWN = {
    "row_id",
    "label",
    "labels",
    "prediction",
    "scores",
    "loss",
    "length",
    "width",
    "truncated",
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "special_tokens_mask",
    "position_ids",
    "decoder_input_ids",
    "offset_mapping",
    "overflowing_tokens",
    "num_truncated_tokens",
    "word_ids",
    "overflow_to_sample_mapping",
}


@dataclass(frozen=True)
class Columns:
    """Describes the columns of a task: the user names them with `flag`, or they are the first known
    set that the data has."""

    flag: str
    wanted: Sequence[str | None]
    known: Sequence[Sequence[str]]
    second: str | None = None  # the column of a second text, where the first ones are joined
    like: Callable[[str, Sequence[str]], str] | None = None  # finds the column that a name means
    kind: Kind | None = None  # of their values; None: texts, or labels


@dataclass
class Chosen:
    """Holds the columns that are read: the texts, and a label (or one column per label) or a target
    text."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    target: str = ""
    text_kind: Kind = TEXT
    label_kind: Kind = LABEL

    @property
    def all(self) -> tuple[str, ...]:
        """Returns all columns, by the user's names."""
        return tuple(name for name in (*self.texts, *self.labels, self.target) if name)

    @property
    def answers(self) -> tuple[str, ...]:
        """Returns the columns that a model learns to predict: the labels, or the target."""
        return (self.target,) if self.target else self.labels

    @property
    def written(self) -> dict[str, pyarrow.DataType]:
        """Returns the columns of the splits with their types, without the encoded labels."""
        found = {"row_id": pyarrow.int64()}
        for name in self.texts:
            found[inner(name)] = self.text_kind.column
        if self.target:
            found[inner(self.target)] = TEXT.column
        return found


def inner(name: str) -> str:
    """Returns a column's name in the splits.

    It is the user's name, with RENAMED behind it where the splits use that name themselves. No two
    columns get one name.
    """
    is_taken = name in OWN or name.endswith(RENAMED)
    return f"{name}{RENAMED}" if is_taken else name


def choose_all(
    texts: Columns,
    label: Columns | None,
    target: Columns | None,
    found: dict[str, Source],
    remove_columns: str | None,
) -> Chosen:
    """Returns the columns to read of all splits; refuses one that is named twice."""
    removed = set((remove_columns or "").split(","))
    columns = Chosen(choose(texts, found, removed), text_kind=texts.kind or TEXT)
    if label:
        first = next(iter(found.values()))
        label = replace(label, wanted=_one_per_label(label.wanted, first))
        columns.labels = choose(label, found, removed, optional_in=("test",))
        columns.label_kind = label.kind or LABEL
        if columns.label_kind.per_word and len(columns.labels) > 1:
            what = f"a word has one label, not those of {' and '.join(columns.labels)}"
            raise Refusal(what, label.flag, "name one column")
    if target:
        removed |= {*columns.texts}
        (columns.target,) = choose(target, found, removed, optional_in=("test",))
    for name, times in Counter(columns.all).items():
        if times > 1:
            fix = "name every column once: text, label and target are different columns"
            raise Refusal(f"the column {name!r} is named twice", texts.flag, fix)
    return columns


def _one_per_label(wanted: Sequence[str | None], source: Source) -> list[str]:
    """Returns the names between the commas, one column per label, unless one column has the whole
    name."""
    given = [name for name in wanted if name]
    name = given[0] if given else ""
    _, first = next(source.rows(), (1, {}))
    return [name] if name in first else flags.comma_separated(name)


def choose(
    columns: Columns,
    found: dict[str, Source],
    removed: set[str],
    optional_in: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Returns the columns to read, by the first row of every split.

    Refuses a missing column, and suggests a name. In the splits of `optional_in` it may be missing:
    a note then says that their rows get no scores.
    """
    chosen = _named(columns)
    for name, source in found.items():
        number, first = next(source.rows(), (1, None))
        if first is None:
            fix = "give a file with at least one row"
            raise Refusal(f"the {name} data has no rows", source.place(number), fix)
        present = [column for column in first if column not in removed]
        chosen = chosen or _first_known(columns, present)
        meant = _meant(columns, chosen, present)
        missing = [column for column in meant if column not in present]
        if not missing or name not in optional_in:
            chosen = meant
        if missing and name not in optional_in:
            where = source.place(number)
            raise _missing_column(missing[0], present, list(first), where, columns)
        if missing:
            shown = f"the {name} data has no column {missing[0]!r}, but {', '.join(present)}"
            note(f"{shown}: its rows get predictions, but no scores")
    return chosen


def _named(columns: Columns) -> tuple[str, ...]:
    """Returns the columns that the user names."""
    wanted = [name for name in columns.wanted if name]
    if columns.second:
        return (*(wanted or columns.known[0]), columns.second)
    return tuple(wanted)


def _first_known(columns: Columns, present: Sequence[str]) -> tuple[str, ...]:
    """Returns the first known set whose columns are all there, or else the first set."""
    for names in columns.known:
        if set(names) <= set(present):
            return tuple(names)
    return tuple(columns.known[0])


def _meant(columns: Columns, chosen: tuple[str, ...], present: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns that the names mean: `like` also finds other spellings."""
    if columns.like is None:
        return chosen
    return tuple(columns.like(column, present) for column in chosen)


def _missing_column(
    missing: str, present: list[str], all_columns: list[str], where: str, columns: Columns
) -> Refusal:
    close = nearest(missing, present)
    if not close:
        synonyms = [name for name in SYNONYMS.get(missing, ()) if name in present]
        close = synonyms[0] if synonyms else ""
    fix = f"say which it is: {columns.flag} NAME"
    if close:
        fix = f"did you mean {close!r}? Say {columns.flag} {close}"
    if header := csv_rows.no_header(all_columns):
        fix = f"{header}, {missing} among them; otherwise {fix}"
    what = f"no column {missing!r}; columns: {', '.join(all_columns)}"
    return Refusal(what, where, fix)
