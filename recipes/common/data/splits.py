"""Turns sources into checked splits: every row is read once, checked and counted before any model
is loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import datasets

from recipes.common.config.flags import Arguments, comma_separated
from recipes.common.data import (
    label_column,
    label_decision,
    label_spelling,
    limits,
    seen_labels,
    sources,
    validation_split,
)
from recipes.common.data.checking import Table
from recipes.common.data.columns import Chosen, Columns, choose_all, inner
from recipes.common.data.labels import REGRESSION, Labels
from recipes.common.data.sources import Reading, Source
from recipes.common.runtime import hashing, processes
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, warn

if TYPE_CHECKING:
    from transformers import TrainingArguments

STREAMED_EVALUATION = 1000  # rows of a remote stream that are held out (see --max_eval_samples)
SHUFFLED = 10_000  # rows of a stream that are shuffled together


@dataclass
class Splits:
    """Holds checked rows: `row_id` (position as read, from 0), the texts, and the task's answer, if
    it has one.

    The answer is `labels`, or the text in the column `target`. A user's column that has one of
    these names gets another name here (see `inner`).
    """

    train: datasets.Dataset | datasets.IterableDataset | None
    validation: datasets.Dataset | None
    test: datasets.Dataset | None
    texts: tuple[str, ...]
    is_pair: bool
    target: str
    labels: Labels | None
    accounting: dict[str, dict[str, Any]]
    hashes: dict[str, str]
    # The splits of which each row is a whole text, even where it ends in a line break.
    whole: tuple[str, ...] = ()
    read: dict[str, list[str]] = field(default_factory=dict)  # each split's files, by their hashes
    streamed: int | None = None  # rows per pass of a streamed training set, where they were counted
    columns: dict[str, str] = field(default_factory=dict)  # texts, target -> the user's names

    @property
    def known_labels(self) -> Labels:
        """Returns the labels of a task that has labels."""
        if self.labels is None:
            raise ValueError("this task has no labels")
        return self.labels

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields pairs of name and data set, for the splits of this run."""
        for name in limits.LIMITS:
            split = getattr(self, name)
            if split is not None:
                yield name, split


@processes.once_per_node
def load_splits(
    arguments: Arguments,
    training_arguments: "TrainingArguments",
    texts: Columns,
    label: Columns | None = None,
    target: Columns | None = None,
    reading: Reading = sources.PLAIN,
    class_names: list[str] | None = None,
    do_regression: bool | None = None,
    trained: Labels | None = None,
) -> Splits:
    """Returns the checked splits of this run. Warns of skipped rows, and refuses rows that are
    wrong.

    A task predicts a `label` or a text (`target`), or learns from the texts alone. `class_names`
    and `do_regression` say what the labels are where the data alone does not; `trained` are the
    labels of the checkpoint.
    """
    is_remote = bool(arguments.streaming and arguments.dataset_name and not label)
    _check_steps(is_remote, training_arguments)
    found = sources.find(arguments, training_arguments, reading)
    columns = choose_all(texts, label, target, found, arguments.remove_columns)
    tables = _read_all(found, columns, arguments, training_arguments, is_remote)
    decided = None
    if label:
        decided = _decide(tables, class_names, do_regression, trained, arguments)
    _warn(tables)
    splits = _splits(found, tables, columns, decided)
    splits.is_pair = bool(texts.second) or (not any(texts.wanted) and len(columns.texts) == 2)
    if _holds_out(found, training_arguments):
        _hold_out(splits, tables["train"], arguments, training_arguments.seed)
    splits.whole = _whole(found, splits)
    if arguments.shuffle_train_dataset and splits.train is not None:
        splits.train = _shuffled(splits.train, found["train"], arguments.shuffle_seed)
    if label or target:  # texts alone are packed: there the limits count blocks
        for name, split in splits.items():
            setattr(splits, name, limits.cut(split, name, arguments, splits.accounting[name]))
        if arguments.streaming and splits.train is not None:
            _prepare_stream(splits, splits.train, training_arguments, is_remote)
    return splits


def _splits(
    found: dict[str, Source],
    tables: dict[str, Table],
    columns: Chosen,
    decided: Labels | None,
) -> Splits:
    """Returns the rows of all tables, before any is held out or left out."""
    names = [name for name in (*columns.texts, columns.target) if name]
    by_split = {name: table.dataset(decided) for name, table in tables.items()}
    hashes, read = _files(found)
    return Splits(
        train=by_split.get("train"),
        validation=by_split.get("validation"),
        test=by_split.get("test"),
        texts=tuple(map(inner, columns.texts)),
        is_pair=False,
        target=inner(columns.target),
        labels=decided,
        accounting={name: table.account for name, table in tables.items()},
        hashes=hashes,
        read=read,
        columns={inner(name): name for name in names},
    )


def _hold_out(splits: Splits, table: Table, arguments: Arguments, seed: int) -> None:
    """Moves a part of the training rows to the validation rows."""
    percentage = arguments.validation_split_percentage
    parts = validation_split.split(table, splits.train, percentage, seed, splits.labels)
    splits.train, splits.validation, moved = parts
    validation_split.account(splits.accounting, moved, len(splits.validation))


def _prepare_stream(
    splits: Splits,
    train: datasets.IterableDataset,
    training_arguments: "TrainingArguments",
    is_remote: bool,
) -> None:
    """Sets the steps of a streamed training set, and shuffles it."""
    rows = splits.accounting["train"]["used"]
    limits.set_steps(training_arguments, rows)
    seed = training_arguments.seed
    splits.train = train.shuffle(seed=seed, buffer_size=SHUFFLED)
    if not is_remote:
        splits.streamed = rows


def _check_steps(is_remote: bool, training_arguments: "TrainingArguments") -> None:
    """Refuses a stream from the Hub without --max_steps: its length is unknown."""
    if is_remote and training_arguments.do_train and training_arguments.max_steps <= 0:
        fix = "say how long to train: --max_steps 10000"
        raise Refusal("the length of a stream from the Hub is not known", "--streaming", fix)


def _holds_out(found: dict[str, Source], training_arguments: "TrainingArguments") -> bool:
    """Whether validation data is needed, and not given."""
    return "validation" not in found and sources.needs_validation(training_arguments)


def _read_all(
    found: dict[str, Source],
    columns: Chosen,
    arguments: Arguments,
    training_arguments: "TrainingArguments",
    is_remote: bool,
) -> dict[str, Table]:
    """Reads every split once."""
    tables = {}
    for name, source in found.items():
        is_streamed = arguments.streaming and name == "train"
        held_out = most = None
        if is_streamed and _holds_out(found, training_arguments):
            held_out = (arguments.validation_split_percentage, training_arguments.seed)
        if is_streamed and is_remote:
            most = arguments.max_eval_samples or STREAMED_EVALUATION
        table = tables[name] = Table(source, columns, is_streamed, held_out)
        table.read(most)
    return tables


def _shuffled(split: Any, source: Source, seed: int) -> Any:
    """Returns the training rows in another order, before --max_train_samples takes the first."""
    if source.continues_before:
        lines = "--keep_linebreaks false makes a text of each line"
        fix = f"leave it out: blocks are shuffled anyway; {lines}"
        what = "the lines of a text stay in their order"
        raise Refusal(what, "--shuffle_train_dataset", fix)
    return split.shuffle(seed=seed)


def _whole(found: dict[str, Source], splits: Splits) -> tuple[str, ...]:
    """Returns the splits in which each row is a whole text; held-out rows are as in training."""
    whole = []
    for name, _ in splits.items():
        source = found.get(name) or found["train"]
        if source.continues_before is False:
            whole.append(name)
    return tuple(whole)


def _files(found: dict[str, Source]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Returns the hash of each file, and the hashes of each split's files in their order."""
    hashes: dict[str, str] = {}
    read: dict[str, list[str]] = {}
    for name, source in found.items():
        hashes |= {str(path): hashing.content_hash(path) for path in source.paths}
        read[name] = [hashes[str(path)] for path in source.paths]
    return hashes, read


def _class_names(words: list[str] | None) -> list[str]:
    """Returns the names of --class_names: one per word, or one word with commas between them."""
    if words and len(words) == 1:
        return comma_separated(words[0])
    return words or []


def _decide(
    tables: dict[str, Table],
    names: list[str] | None,
    do_regression: bool | None,
    trained: Labels | None,
    arguments: Any,
) -> Labels:
    """Decides from the labels of all splits what they mean. From now on every table reads its
    labels so."""
    columns = next(iter(tables.values())).columns
    flag = ", ".join(columns.labels)
    own = _own_names(tables, flag)
    mapped = label_spelling.mapping(getattr(arguments, "label_map", None))
    named = _class_names(names) or list(dict.fromkeys(mapped.values()))
    asked = _asked(columns, named or own, do_regression, trained, arguments)
    asked = replace(asked, map=_by_number(mapped, own), by_position=bool(own))
    spelt = label_column.find(_checked_labels(tables), asked, flag)
    for table in tables.values():
        table.read_labels(spelt)
    seen = {name: table.labels_seen for name, table in tables.items()}
    label_column.warn_of_case(seen, flag)
    named = named or list(spelt.names)
    by_position = bool(own) and not named
    per_word = columns.label_kind.per_word
    return label_decision.decide(
        seen, flag, named or own, do_regression, trained, by_position, per_word=per_word
    )


def _asked(
    columns: Chosen,
    named: Sequence[str] | None,
    do_regression: bool | None,
    trained: Labels | None,
    arguments: Any,
) -> label_spelling.Asked:
    """Returns what is known about the labels before they are looked at."""
    known: Sequence[str] = trained.names if trained else ()
    delimiter = getattr(arguments, "label_delimiter", None)
    if columns.label_kind.per_word:
        delimiter = label_column.WHOLE
    if trained and not trained.is_trained_further:
        named = named or trained.names
        do_regression = trained.kind == REGRESSION
    return label_spelling.Asked(
        names=named or (),
        known=known,
        do_regression=do_regression,
        columns=columns.labels if len(columns.labels) > 1 else (),
        delimiter=delimiter,
    )


def _checked_labels(tables: dict[str, Table]) -> dict[str, seen_labels.SeenLabels]:
    """Returns the labels of each split; refuses types that no label can have."""
    seen = {name: table.labels_seen for name, table in tables.items()}
    for found in seen.values():
        seen_labels.check_types(found)
    return seen


def _own_names(tables: dict[str, Table], column: str) -> list[str] | None:
    """Returns the names of the classes that the data itself holds (a ClassLabel of parquet or the
    Hub)."""
    for table in tables.values():
        if column in table.source.class_names:
            return table.source.class_names[column]
    return None


def _by_number(mapped: dict[str, str], own: list[str] | None) -> dict[str, str]:
    """Returns --label_map with the data's own class names replaced by their numbers."""
    numbers = {name: str(number) for number, name in enumerate(own or ())}
    return {numbers.get(value, value): name for value, name in mapped.items()}


def join(
    rows: dict[str, list], columns: Sequence[str], delimiter: str, is_pair: bool
) -> tuple[list[str], list[str] | None]:
    """Returns the text of each row, with its columns joined, and for pairs the second texts from
    the last column."""
    texts = [rows[name] for name in columns]
    second = texts.pop() if is_pair else None
    return [delimiter.join(parts) for parts in zip(*texts, strict=True)], second


def _warn(tables: dict[str, Table]) -> None:
    """Warns of skipped rows, duplicates and overlaps; notes rows without a label and unused
    columns.

    Each has a line with its count.
    """
    for name, table in tables.items():
        for reason, count in table.skipped.items():
            warn(f"{name}: {count} of {table.rows_read} rows skipped: {reason}")
        if table.duplicates:
            differing = ""
            if table.contradictions:
                differing = f", {table.contradictions} with another label"
            warn(f"{name}: {table.duplicates} rows repeat an earlier text{differing}")
        if table.unscored:
            rows = f"{table.unscored} of {table.rows_read} rows have no answer in"
            columns = ", ".join(map(repr, table.columns.answers))
            note(f"{name}: {rows} {columns}: they get predictions, but no scores")
        if table.unused:
            note(f"{name}: columns not used: {', '.join(table.unused)}")
    for first, second in combinations(tables, 2):
        if tables[first].source.rows is tables[second].source.rows:
            continue  # evaluating on the test data, as noted before
        overlap = len(tables[first].digests.keys() & tables[second].digests.keys())
        if overlap:
            better = "the scores will look better than they are"
            warn(f"{overlap} texts stand in both {first} and {second}: {better}")
