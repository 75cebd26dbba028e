"""Finds where the rows of each split come from: files, or a data set of the Hub.

Only the names of columns and classes are read here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import datasets

from recipes.common.config import training_settings
from recipes.common.config.flags import Arguments
from recipes.common.data import (
    decoding,
    found_files,
    readers,
    saved_folders,
    unpacking,
    word_tables,
)
from recipes.common.runtime import links
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, reason

if TYPE_CHECKING:
    from transformers import TrainingArguments

# A split's usual names on the Hub; the first one found is taken.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "validation_matched", "valid", "dev"),
    "test": ("test", "test_matched"),
}


@dataclass(frozen=True)
class Reading:
    """Says how a task reads its files, where that is not one row per line."""

    nested: str = ""  # a column whose value is an object that holds the task's columns
    languages: tuple[str, ...] = ()  # files that end in them are parallel texts
    line_breaks: bool = False  # lines of .txt files keep their breaks: the text continues
    words: bool = False  # files hold one word per line, tables one per row, texts marked places

    def options(self, encoding: str | None, split: str) -> readers.Options:
        """Returns how the files of a split are read."""
        return readers.Options(encoding or "", self.line_breaks, SPLIT_NAMES[split], self.words)


@dataclass(frozen=True)
class Source:
    """Gives the rows of one split as pairs of (number, row), and the place of each number."""

    name: str
    rows: Callable[[], Iterator[tuple[int, dict]]]
    place: Callable[[int], str]
    class_names: dict[str, list[str]] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    # Whether each row continues the one before. None, for rows of the Hub: a row does so where the
    # one before ends in a line break.
    continues_before: bool | None = None


PLAIN = Reading()
LABELLED_WORDS = Reading(words=True)


def find(
    arguments: Arguments, training_arguments: "TrainingArguments", reading: Reading = PLAIN
) -> dict[str, Source]:
    """Returns the sources of the splits that this run uses.

    Refuses a missing split, unless the run can do without it.
    """
    if arguments.dataset_name and arguments.train_file:
        where = "--dataset_name and --train_file"
        raise Refusal("two sources of data", where, "give one of the two")
    decoding.check(arguments.encoding)
    available = _available(arguments, reading)
    wanted = _wanted(arguments, training_arguments, available)
    found = {}
    for split in SPLIT_NAMES:
        if split not in wanted:
            continue
        if split in available:
            found[split] = available[split]
        elif split != "validation" or "train" not in available:
            flag = f"--{split}_file"
            fix = f"name it: {flag} FILE, or a Hub data set with --dataset_name"
            raise Refusal(f"no {split} data", flag, fix)
    return found


def _available(arguments: Arguments, reading: Reading) -> dict[str, Source]:
    """Returns the sources of all splits of the data."""
    if arguments.dataset_name:
        found = _data_set_sources(arguments)
    else:
        found = _file_sources(arguments, reading)
    if reading.nested:
        for split, source in found.items():
            found[split] = _unnested(source, reading.nested)
    if reading.words:
        for split, source in found.items():
            found[split] = replace(source, rows=partial(_sentences, source))
    return found


def _sentences(source: Source) -> Iterator[tuple[int, dict]]:
    return word_tables.sentences(source.rows(), source.place)


def _wanted(
    arguments: Arguments, training_arguments: "TrainingArguments", available: dict[str, Source]
) -> set[str]:
    """Returns the splits that the run uses.

    Where there is no validation data, it comes from the training data, or the test data stands in
    for it and is added to `available`. A run that trains predicts nothing if there is no test data.
    """
    wanted = set()
    if training_arguments.do_train:
        wanted.add("train")
    if needs_validation(training_arguments):
        wanted.add("validation")
        if "validation" not in available and "train" in available:
            wanted.add("train")
        elif "validation" not in available and "test" in available:
            note("no validation data: evaluating on the test data")
            available["validation"] = available["test"]
    if training_arguments.do_predict:
        may_be_missing = training_arguments.do_train and not arguments.test_split_name
        if "test" in available or not may_be_missing:
            wanted.add("test")
        else:
            note("no test data: nothing to predict")
            training_settings.predict_nothing(training_arguments)
    return wanted


def needs_validation(training_arguments: "TrainingArguments") -> bool:
    """Whether the run evaluates, at its end or before."""
    return training_arguments.do_eval or training_arguments.eval_strategy != "no"


def _unnested(source: Source, column: str) -> Source:
    """Returns the source with the object in `column` taken apart.

    {"translation": {"en": …, "de": …}} has the columns en and de.
    """

    def rows() -> Iterator[tuple[int, dict]]:
        for number, row in source.rows():
            inner = row.get(column)
            if isinstance(inner, dict):
                row = dict(row)
                del row[column]
                row.update(inner)
            yield number, row

    return replace(source, rows=rows)


def _file_sources(arguments: Arguments, reading: Reading) -> dict[str, Source]:
    sources = {}
    for split in SPLIT_NAMES:
        patterns = getattr(arguments, f"{split}_file")
        if isinstance(patterns, str):
            patterns = [patterns]
        if patterns:
            options = reading.options(arguments.encoding, split)
            sources[split] = _file_source(split, patterns, reading, options)
    return sources


def _file_source(
    split: str, patterns: list[str], reading: Reading, options: readers.Options
) -> Source:
    flag = f"--{split}_file"
    paths = found_files.expand(patterns, flag, reading.languages, options.split, options.words)
    place = partial(_file_place, paths)
    continues_before = reading.line_breaks and all(map(readers.is_plain_text, paths))
    parallel = [path for path in paths if found_files.language(path, reading.languages)]
    if not parallel:
        rows = partial(_file_rows, paths, options)
        return Source(split, rows, place, _class_names(paths), tuple(paths), continues_before)
    if len(parallel) < len(paths):
        what = f"{parallel[0]} is one of several texts in parallel, but not all files are"
        raise Refusal(what, flag, "name parallel texts, or tables of both languages")
    rows = partial(_parallel_rows, paths, reading.languages, flag, options.encoding)
    return Source(split, rows, place, {}, tuple(paths), continues_before)


def _class_names(paths: list[Path]) -> dict[str, list[str]]:
    """Returns the names of classes that the files hold, by column; refuses files that disagree."""
    known: dict[str, list[str]] = {}
    for path in paths:
        for column, names in readers.class_names(path).items():
            if known.setdefault(column, names) != names:
                differs = f"have other names, or another order, than in {paths[0]}"
                fix = "write both files from one data set"
                raise Refusal(f"the classes of {column!r} {differs}", str(path), fix)
    return known


def _file_rows(paths: list[Path], options: readers.Options) -> Iterator[tuple[int, dict]]:
    """Yields the rows of several files.

    The number also says which file: number * len(paths) + the file's position.
    """
    for position, path in enumerate(paths):
        for number, row in readers.read(path, options):
            yield number * len(paths) + position, row


def _parallel_rows(
    paths: list[Path], languages: tuple[str, ...], flag: str, encoding: str
) -> Iterator[tuple[int, dict]]:
    """Yields the rows of files that translate each other.

    They are paired in the order in which the files of each language are named.
    """
    for group in _parallel_files(paths, languages, flag):
        position = paths.index(group[languages[0]])
        for number, row in readers.read_parallel(group, encoding):
            yield number * len(paths) + position, row


def _parallel_files(
    paths: list[Path], languages: tuple[str, ...], flag: str
) -> Iterator[dict[str, Path]]:
    """Yields groups of files that translate each other, by their languages."""
    of_language = {}
    for code in languages:
        of_language[code] = [path for path in paths if found_files.language(path, [code])]
    if len(set(map(len, of_language.values()))) > 1:
        found = ", ".join(f"{len(files)} in {code}" for code, files in of_language.items())
        fix = "name one file of each language, for example a.en a.de"
        raise Refusal(f"the files do not pair up: {found}", flag, fix)
    for group in zip(*of_language.values(), strict=True):
        yield dict(zip(languages, group, strict=True))


def _file_place(paths: list[Path], code: int) -> str:
    number, position = divmod(code, len(paths))
    return readers.place(paths[position], number)


def _data_set_sources(arguments: Arguments) -> dict[str, Source]:
    """Returns the sources of a data set's splits.

    A folder that `save_to_disk` left is read by its files; the datasets library loads any other.
    """
    saved = saved_folders.splits(_folder(arguments))
    if saved:
        return _saved_sources(arguments, saved)
    data, paths = _load_hub(arguments), _files_of(arguments)
    sources = {}
    for split, name in _splits_of(arguments, data).items():
        rows = partial(enumerate, data[name], 1)
        place = partial("{}, {}, row {}".format, arguments.dataset_name, name)
        sources[split] = Source(split, rows, place, _class_features(data[name]), paths)
    return sources


def _folder(arguments: Arguments) -> Path:
    """Returns --dataset_name as a path; a data set on the Hub is no folder there."""
    if arguments.dataset_name is None:
        raise ValueError("no data set is named")
    return Path(arguments.dataset_name)


def _saved_sources(arguments: Arguments, saved: dict[str, Path]) -> dict[str, Source]:
    sources = {}
    for split, name in _splits_of(arguments, saved).items():
        paths = saved_folders.files(saved[name])
        rows = partial(_file_rows, paths, readers.PLAIN)
        place = partial(_file_place, paths)
        sources[split] = Source(split, rows, place, _class_names(paths), tuple(paths))
    return sources


def _splits_of(arguments: Arguments, present: Iterable[str]) -> dict[str, str]:
    """Returns for each split of the run the name of its split in the data set.

    A flag names it, or it has a usual name.
    """
    left = _without_removed(arguments, present)
    found = {}
    for split, usual in SPLIT_NAMES.items():
        chosen = getattr(arguments, f"{split}_split_name")
        if chosen and chosen not in left:
            fix = did_you_mean(chosen, left, f"splits: {', '.join(left)}")
            raise Refusal(f"the data set has no split {chosen!r}", f"--{split}_split_name", fix)
        name = chosen or _first_in(left, usual)
        if name:
            found[split] = name
    return found


def _first_in(present: list[str], names: Iterable[str]) -> str:
    for name in names:
        if name in present:
            return name
    return ""


def _without_removed(arguments: Arguments, present: Iterable[str]) -> list[str]:
    """Returns the splits that --remove_splits leaves; refuses the name of one that is not there."""
    left = list(present)
    removed = (arguments.remove_splits or "").split(",")
    for name in filter(None, removed):
        if name not in left:
            fix = f"splits: {', '.join(left)}"
            raise Refusal(f"no split {name!r} to remove", "--remove_splits", fix)
        left.remove(name)
    return left


def _load_hub(arguments: Arguments) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    mode = "force_redownload" if arguments.overwrite_cache else None
    try:
        _check_inside(arguments)
        return datasets.load_dataset(
            arguments.dataset_name,
            arguments.dataset_config_name,
            revision=arguments.dataset_revision,
            cache_dir=arguments.cache_dir,
            token=arguments.token,
            download_mode=mode,
            streaming=arguments.streaming,
        )
    except Refusal:
        raise
    except Exception as error:  # each format's library raises its own
        if disk_error(error):
            raise
        what = f"cannot load the data set {arguments.dataset_name}: {reason(error)}"
        fix = (
            "check its name, --dataset_config_name and the network; "
            "or read local files with --train_file"
        )
        raise Refusal(what, "--dataset_name", fix) from None


def _check_inside(arguments: Arguments) -> None:
    """Refuses a folder whose README, or whose links, name data outside of it."""
    folder = _folder(arguments)
    if folder.is_dir():
        named = _files_of(arguments)
        links.check_inside(folder, list(named), "--dataset_name")
        for path in named:
            _check_unpacks(path)


def _files_of(arguments: Arguments) -> tuple[Path, ...]:
    """Returns the files of a data set that is a folder here; none for one on the Hub."""
    folder, name = _folder(arguments), arguments.dataset_config_name
    if not folder.is_dir():
        return ()
    builder = datasets.load_dataset_builder(str(folder), name, cache_dir=arguments.cache_dir)
    found: list[Path] = []
    for files in (builder.config.data_files or {}).values():
        found += map(Path, files)
    return tuple(found)


def _check_unpacks(path: Path) -> None:
    """Refuses a packed file, unless it is gzip of a reasonable size.

    The datasets library knows a packed file by its first bytes. It reads tar as it is.
    """
    if not path.is_file():
        return
    packing = datasets.utils.extract.Extractor.infer_extractor_format(path)
    if packing == "gzip":
        unpacking.check_ratio(path)
    elif packing and packing != "tar":
        fix = "unpack it, or name it by --train_file"
        raise Refusal(f"the file is packed as {packing}", str(path), fix)


def _class_features(split: datasets.Dataset | datasets.IterableDataset) -> dict[str, list[str]]:
    """Returns the names of classes by column; the column may hold lists of classes."""
    found = {}
    for name, feature in (split.features or {}).items():
        feature = getattr(feature, "feature", feature)
        if isinstance(feature, datasets.ClassLabel):
            found[name] = feature.names
    return found
