"""Sources -> checked splits: every row is read once, checked and accounted for before any model is loaded."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import numpy

from recipes.common.config import flags
from recipes.common.config.flags import Arguments
from recipes.common.data import csv_rows, hold_out, label_spelling, labels, sources
from recipes.common.data.checking import Chosen, Table, inner
from recipes.common.data.sources import Reading, Source
from recipes.common.runtime import hashing, processes
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, note, warn

LIMITS = {
    "train": "max_train_samples",
    "validation": "max_eval_samples",
    "test": "max_predict_samples",
}
HELD_OUT = "held out for validation"
# Names that people give to what a recipe calls text and label, for "did you mean".
SYNONYMS = {
    "text": ("review", "sentence", "content", "body", "comment", "document", "tweet"),
    "label": ("labels", "class", "sentiment", "category", "rating", "stars", "score", "target"),
}
STREAMED_EVALUATION = (
    1000  # rows of a remote stream that are held out, unless --max_eval_samples says otherwise
)
SHUFFLED = 10_000  # rows of a stream that are shuffled together


@dataclass(frozen=True)
class Columns:
    """Which columns a task reads: those the user names with `flag`, or the first known set that the data has."""

    flag: str
    wanted: Sequence[str | None]
    known: Sequence[Sequence[str]]
    second: str | None = None  # the column of a second text, where the first ones are joined
    like: Callable[[str, Sequence[str]], str] | None = None  # finds the column that a name means


@dataclass
class Splits:
    """Checked rows: the column `row_id` (position as read, from 0), the texts, and what the task has as its answer:
    `labels`, or the text in the column `target`, or neither. A column of the user's that is called as one of these
    would be has another name here, so that no name matters."""

    train: datasets.Dataset | datasets.IterableDataset | None
    validation: datasets.Dataset | None
    test: datasets.Dataset | None
    texts: tuple[str, ...]
    is_pair: bool
    target: str
    labels: labels.Labels | None
    accounting: dict[str, dict[str, Any]]
    hashes: dict[str, str]
    whole: tuple[
        str, ...
    ] = ()  # the splits of which each row is a whole text, even where it ends in a line break
    read: dict[str, list[str]] = field(
        default_factory=dict
    )  # the hashes of each split's files, in their order
    streamed: int | None = (
        None  # rows of a pass over a training set that is streamed, where they were counted
    )
    columns: dict[str, str] = field(
        default_factory=dict
    )  # texts and target -> how the user calls them

    def items(self) -> Iterator[tuple[str, Any]]:
        """Pairs of name and data set, for the splits that there are."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return ((name, split) for name, split in named.items() if split is not None)


@processes.once_per_node
def load_splits(
    arguments: Arguments,
    training_arguments: Any,
    texts: Columns,
    label: Columns | None = None,
    target: Columns | None = None,
    reading: Reading = sources.PLAIN,
    class_names: list[str] | None = None,
    do_regression: bool | None = None,
    trained: labels.Labels | None = None,
) -> Splits:
    """The checked splits that this run needs; warns of what was skipped, refuses what cannot be right.

    A task answers with a `label`, with a text (`target`), or is about the texts alone. `class_names` and
    `do_regression` say what the labels are where the data alone does not; `trained` are the labels of the checkpoint.
    """
    remote = bool(arguments.streaming and arguments.dataset_name and not label)
    if remote and training_arguments.do_train and training_arguments.max_steps <= 0:
        fix = "say how long to train: --max_steps 10000"
        raise Refusal("nobody knows how long a stream from the Hub is", "--streaming", fix)
    found = sources.find(arguments, training_arguments, reading)
    columns = _columns(texts, label, target, found, arguments)
    holds_out = "validation" not in found and sources.needs_validation(training_arguments)
    held_out = (
        (arguments.validation_split_percentage, training_arguments.seed) if holds_out else None
    )
    most = arguments.max_eval_samples or STREAMED_EVALUATION if remote else None
    tables = {
        name: _read(source, columns, arguments.streaming, held_out, most)
        for name, source in found.items()
    }
    decided = _decide(tables, class_names, do_regression, trained, arguments) if label else None
    _warn(tables)
    by_split = {name: table.dataset(decided) for name, table in tables.items()}
    accounting = {name: table.account for name, table in tables.items()}
    if holds_out:
        parts = _hold_out(
            tables["train"], by_split["train"], arguments, training_arguments.seed, decided
        )
        by_split["train"], by_split["validation"], moved = parts
        _move(accounting, moved, len(by_split["validation"]))
    if arguments.shuffle_train_dataset and "train" in by_split:
        by_split["train"] = _shuffled(by_split["train"], found["train"], arguments.shuffle_seed)
    if (
        label or target
    ):  # texts alone are packed: there the limits count blocks, as in Hugging Face's scripts
        for name in by_split:
            by_split[name] = _limit(by_split[name], name, arguments, accounting[name])
    streamed = None
    if arguments.streaming and by_split.get("train") is not None and (label or target):
        streamed = None if remote else accounting["train"]["used"]
        _set_steps(training_arguments, accounting["train"]["used"])
        by_split["train"] = by_split["train"].shuffle(
            seed=training_arguments.seed, buffer_size=SHUFFLED
        )
    data = [by_split.get(name) for name in LIMITS]
    is_pair = bool(texts.second) or (not any(texts.wanted) and len(columns.texts) == 2)
    names = {inner(name): name for name in (*columns.texts, columns.target) if name}
    inner_texts, inner_target = tuple(map(inner, columns.texts)), inner(columns.target)
    hashes = {
        str(path): hashing.content_hash(path) for source in found.values() for path in source.paths
    }
    read = {name: [hashes[str(path)] for path in source.paths] for name, source in found.items()}
    whole = _whole(found, by_split)
    return Splits(
        *data,
        inner_texts,
        is_pair,
        inner_target,
        decided,
        accounting,
        hashes,
        whole,
        read,
        streamed,
        names,
    )


def _shuffled(split: Any, source: Source, seed: int) -> Any:
    """The training rows in another order, before --max_train_samples takes the first."""
    if source.runs_on:
        fix = "leave it out: blocks are shuffled anyway; --keep_linebreaks false makes a text of each line"
        raise Refusal("the lines of a text stay in their order", "--shuffle_train_dataset", fix)
    return split.shuffle(seed=seed)


def _whole(found: dict[str, Source], by_split: dict[str, Any]) -> tuple[str, ...]:
    """The splits of which each row is a whole text; what is held out is of the training data's kind."""
    sources_of = {name: found[name if name in found else "train"] for name in by_split}
    return tuple(name for name, source in sources_of.items() if source.runs_on is False)


def _columns(
    texts: Columns, label: Columns | None, target: Columns | None, found: dict, arguments: Any
) -> Chosen:
    removed = set((arguments.remove_columns or "").split(","))
    columns = Chosen(choose(texts, found, removed))
    if label:
        label = replace(label, wanted=_one_each(label.wanted, next(iter(found.values()))))
        columns.labels = choose(label, found, removed, optional_in=("test",))
    if target:
        (columns.target,) = choose(
            target, found, removed, optional_in=("test",), taken=columns.texts
        )
    twice = next((name for name, times in Counter(columns.all).items() if times > 1), None)
    if twice:
        fix = "name every column once: the text, the label and the target are different ones"
        raise Refusal(f"the column {twice!r} is named twice", texts.flag, fix)
    return columns


def _one_each(wanted: Sequence[str | None], source: Source) -> list[str]:
    """The names of one column per label, which stand with commas between them, unless a column is called so."""
    (name,) = [name for name in wanted if name] or [""]
    _, first = next(source.rows(), (1, {}))
    return [name] if name in first else flags.words(name)


def _read(
    source: Source, columns: Chosen, streaming: bool, held_out: Any, most: int | None
) -> Table:
    streamed = streaming and source.name == "train"
    table = Table(source, columns, streamed, held_out if streamed else None)
    table.read(most if streamed else None)
    return table


def _decide(
    tables: dict[str, Table],
    names: list[str] | None,
    do_regression: bool | None,
    trained: Any,
    arguments: Any,
) -> labels.Labels:
    """What the labels are, by what stands in all splits; every table reads its labels so from now on."""
    columns = next(iter(tables.values())).columns.labels
    flag = ", ".join(columns)
    features = (table.source.class_names for table in tables.values())
    own = next((classes[flag] for classes in features if flag in classes), None)
    mapped = label_spelling.mapping(getattr(arguments, "label_map", None))
    named = names or list(dict.fromkeys(mapped.values()))
    is_final = trained is not None and not trained.goes_on
    asked = label_spelling.Asked(
        names=named or own or (trained.names if is_final else ()),
        known=trained.names if trained else (),
        do_regression=trained.kind == labels.REGRESSION if is_final else do_regression,
        columns=columns if len(columns) > 1 else (),
        delimiter=getattr(arguments, "label_delimiter", None),
        map={
            str(own.index(value)) if own and value in own else value: name
            for value, name in mapped.items()
        },
        by_position=bool(own),
    )
    seen = {name: table.labels_seen for name, table in tables.items()}
    for labels_seen in seen.values():
        labels.check_types(labels_seen)
    spelt = label_spelling.find(seen, asked, flag)
    for table in tables.values():
        table.read_labels(spelt)
    seen = {name: table.labels_seen for name, table in tables.items()}
    label_spelling.warn_of_case(seen, flag)
    named = named or list(spelt.names)
    return labels.decide(
        seen, flag, named or own, do_regression, trained, by_position=bool(own) and not named
    )


def join(
    rows: dict[str, list], columns: Sequence[str], delimiter: str, is_pair: bool
) -> tuple[list[str], list[str] | None]:
    """The text of each row, its columns joined, and for pairs the second texts: the last column."""
    texts = [rows[name] for name in columns]
    second = texts.pop() if is_pair else None
    return [delimiter.join(parts) for parts in zip(*texts, strict=True)], second


def choose(
    columns: Columns,
    found: dict[str, Source],
    removed: set[str],
    optional_in: tuple[str, ...] = (),
    taken: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The columns to read, by the first row of every split; refuses missing ones with the name they may have."""
    removed = removed | set(taken)
    wanted = [name for name in columns.wanted if name]
    if columns.second:
        wanted = [*(wanted or columns.known[0]), columns.second]
    chosen = tuple(wanted)
    for name, source in found.items():
        number, first = next(source.rows(), (1, None))
        if first is None:
            raise Refusal(
                f"the {name} data has no rows",
                source.place(number),
                "give a file with at least one row",
            )
        present = [column for column in first if column not in removed]
        if not chosen:
            known = (tuple(names) for names in columns.known if set(names) <= set(present))
            chosen = next(known, tuple(columns.known[0]))
        meant = (
            tuple(columns.like(column, present) for column in chosen) if columns.like else chosen
        )
        if name not in optional_in or set(meant) <= set(present):
            chosen = meant
        missing = next((column for column in chosen if column not in present), None)
        if missing is not None and name not in optional_in:
            raise _missing_column(missing, present, list(first), source.place(number), columns)
    return chosen


def _missing_column(
    missing: str, present: list[str], all_columns: list[str], where: str, columns: Columns
) -> Refusal:
    synonym = next((name for name in SYNONYMS.get(missing, ()) if name in present), "")
    close = nearest(missing, present) or synonym
    fix = (
        f"did you mean {close!r}? Say {columns.flag} {close}"
        if close
        else f"say which it is: {columns.flag} NAME"
    )
    header = csv_rows.no_header(all_columns)
    fix = f"{header}; otherwise {fix}" if header else fix
    return Refusal(f"no column {missing!r}; columns: {', '.join(all_columns)}", where, fix)


def _hold_out(
    table: Table, train: Any, arguments: Arguments, seed: int, decided: labels.Labels | None
) -> tuple[Any, datasets.Dataset, int]:
    """train, validation, and how many rows have moved: the end of a text that runs on; or rows that are drawn with the
    seed, of which every class keeps its share where each has rows enough."""
    if table.streamed:
        validation = table.kept(decided)
        return train, validation, len(validation)
    percentage = arguments.validation_split_percentage
    count = max(1, round(len(train) * percentage / 100))
    column = inner(table.columns.texts[0])
    is_text = not (table.columns.labels or table.columns.target) and 0 < percentage < 100
    if (
        is_text
        and (table.source.runs_on or len(train) == 1)
        and hold_out.is_coarse(train, column, percentage, count)
    ):
        note(
            f"the rows are long: the last {percentage} % of the text, by characters, is held out for validation"
        )
        return hold_out.cut(train, column, percentage)
    if not 0 < count < len(train):
        what = f"{percentage} % of {len(train)} rows leaves nothing to train or validate on"
        raise Refusal(
            what, "--validation_split_percentage", "choose 1 to 50, or give a --validation_file"
        )
    if table.source.runs_on:
        first = len(train) - count
        return train.select(range(first)), train.select(range(first, len(train))), count
    from sklearn.model_selection import train_test_split

    strata = train["labels"] if decided and decided.kind == labels.SINGLE else None
    smallest = min(Counter(strata).values()) if strata is not None else 0
    room = min(count, len(train) - count)  # each part needs a row of every class
    strata = numpy.array(strata) if smallest >= 2 and room >= len(decided.names) else None
    kept, held_out = train_test_split(
        numpy.arange(len(train)), test_size=count, random_state=seed, stratify=strata
    )
    return train.select(numpy.sort(kept)), train.select(numpy.sort(held_out)), count


def _move(accounting: dict[str, dict[str, Any]], moved: int, count: int) -> None:
    train = accounting["train"]
    train["used"] -= moved
    train["skipped"] |= {HELD_OUT: moved} if moved else {}
    accounting["validation"] = {"read": count, "used": count, "skipped": {}}


def limit_of(name: str, arguments: Arguments) -> int | None:
    """--max_train_samples, --max_eval_samples or --max_predict_samples, by the split's name; refuses less than 1."""
    limit = getattr(arguments, LIMITS[name])
    if limit is not None and limit < 1:
        raise Refusal(
            f"--{LIMITS[name]} is {limit}", f"--{LIMITS[name]}", "give a number of at least 1"
        )
    return limit


def _limit(split: Any, name: str, arguments: Arguments, account: dict[str, Any]) -> Any:
    """The split, cut to --max_*_samples where that was asked for; the account says how many were cut."""
    limit = limit_of(name, arguments)
    if limit is not None and not isinstance(split, datasets.Dataset):
        split = split.take(limit)  # of the Hub's streams nobody has counted all rows
    if limit is None or account["used"] <= limit:
        return split
    account["skipped"][f"over --{LIMITS[name]}"] = account["used"] - limit
    account["used"] = limit
    return split.select(range(limit)) if isinstance(split, datasets.Dataset) else split


def _set_steps(training_arguments: Any, rows: int) -> None:
    """A stream has no length for Trainer: --max_steps follows from the rows counted and --num_train_epochs."""
    if training_arguments.max_steps <= 0:
        batches = math.ceil(
            rows / (training_arguments.train_batch_size * training_arguments.world_size)
        )
        steps = math.ceil(batches / training_arguments.gradient_accumulation_steps)
        training_arguments.max_steps = math.ceil(steps * training_arguments.num_train_epochs)


def _warn(tables: dict[str, Table]) -> None:
    """Duplicates, overlaps, skipped rows and unused columns: each in one line, with its count."""
    for name, table in tables.items():
        for reason, count in table.skipped.items():
            warn(f"{name}: {count} of {table.rows_read} rows skipped: {reason}")
        if table.duplicates:
            differing = (
                f", {table.contradictions} with another label" if table.contradictions else ""
            )
            warn(f"{name}: {table.duplicates} rows repeat an earlier text{differing}")
        if table.unused:
            note(f"{name}: columns not used: {', '.join(table.unused)}")
    names = list(tables)
    for first, second in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
        if tables[first].source.rows is tables[second].source.rows:
            continue  # evaluating on the test data, as noted before
        overlap = len(tables[first].digests.keys() & tables[second].digests.keys())
        if overlap:
            warn(
                f"{overlap} texts stand in both {first} and {second}: the scores will look better than they are"
            )
