"""Files or Hub -> where the rows of each split come from; nothing is read but the names of columns and classes."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from recipes.common.config.flags import Arguments
from recipes.common.data import decoding, readers
from recipes.common.runtime import links
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, reason

# A split's usual names on the Hub; the first one found is taken.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "validation_matched", "valid", "dev"),
    "test": ("test", "test_matched"),
}


@dataclass(frozen=True)
class Reading:
    """How a task reads its files beyond one row a line: what stands inside a row, beside a file, or across lines."""

    nested: str = ""  # a column whose value is an object that holds the task's columns
    languages: tuple[str, ...] = ()  # files that end in them are parallel texts
    line_breaks: bool = False  # lines of .txt files keep their breaks: they go on in the next row

    def options(self, encoding: str | None, split: str) -> readers.Options:
        """How the files of a split are read."""
        return readers.Options(encoding or "", self.line_breaks, SPLIT_NAMES[split])


@dataclass(frozen=True)
class Source:
    """Where one split's rows come from: pairs of (number, row), and the place that a number stands for."""

    name: str
    rows: Callable[[], Iterator[tuple[int, dict]]]
    place: Callable[[int], str]
    class_names: dict[str, list[str]] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    # Whether each row goes on where the one before ended; None (rows of the Hub): after one that ends in a line break.
    runs_on: bool | None = None


PLAIN = Reading()


def find(
    arguments: Arguments, training_arguments: Any, reading: Reading = PLAIN
) -> dict[str, Source]:
    """The sources of the splits that this run uses; a missing one is refused unless it can be done without."""
    if arguments.dataset_name and arguments.train_file:
        raise Refusal(
            "two sources of data", "--dataset_name and --train_file", "give one of the two"
        )
    decoding.check(arguments.encoding)
    available = (
        _data_set_sources(arguments)
        if arguments.dataset_name
        else _file_sources(arguments, reading)
    )
    if reading.nested:
        available = {name: _unnested(source, reading.nested) for name, source in available.items()}
    wanted = {
        "train": training_arguments.do_train,
        "validation": needs_validation(training_arguments),
        "test": training_arguments.do_predict,
    }
    if wanted["validation"] and "validation" not in available and "train" in available:
        wanted["train"] = True
    elif wanted["validation"] and "validation" not in available and "test" in available:
        note("no validation data: evaluating on the test data")
        available["validation"] = available["test"]
    if (
        wanted["test"]
        and "test" not in available
        and training_arguments.do_train
        and not arguments.test_split_name
    ):
        note("no test data: nothing to predict")
        training_arguments.do_predict = wanted["test"] = False
    for split, is_wanted in wanted.items():
        if (
            is_wanted
            and split not in available
            and not (split == "validation" and "train" in available)
        ):
            flag = f"--{split}_file"
            raise Refusal(
                f"no {split} data",
                flag,
                f"name it: {flag} FILE, or a Hub data set with --dataset_name",
            )
    return {
        split: available[split] for split in SPLIT_NAMES if wanted[split] and split in available
    }


def needs_validation(training_arguments: Any) -> bool:
    """Whether the run evaluates, at its end or on the way."""
    return training_arguments.do_eval or training_arguments.eval_strategy != "no"


def _unnested(source: Source, column: str) -> Source:
    """The source with the object in `column` taken apart: {"translation": {"en": …, "de": …}} has columns en and de."""

    def rows() -> Iterator[tuple[int, dict]]:
        for number, row in source.rows():
            inner = row.get(column)
            others = {name: value for name, value in row.items() if name != column}
            yield number, {**others, **inner} if isinstance(inner, dict) else row

    return replace(source, rows=rows)


def _file_sources(arguments: Arguments, reading: Reading) -> dict[str, Source]:
    sources = {}
    for split in SPLIT_NAMES:
        flag = f"{split}_file"
        patterns = getattr(arguments, flag)
        if not patterns:
            continue
        options = reading.options(arguments.encoding, split)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        paths = readers.expand(patterns, f"--{flag}", reading.languages, options.split)
        parallel = [path for path in paths if readers.language(path, reading.languages)]
        if parallel and len(parallel) < len(paths):
            what = f"{parallel[0]} is one of several texts in parallel, but not all files are"
            raise Refusal(what, f"--{flag}", "name parallel texts, or tables of both languages")
        if parallel:
            rows = partial(_parallel_rows, paths, reading.languages, f"--{flag}", options.encoding)
        else:
            rows = partial(_file_rows, paths, options)
        runs_on = reading.line_breaks and all(map(readers.is_plain_text, paths))
        names = {} if parallel else _class_names(paths)
        sources[split] = Source(
            split, rows, partial(_file_place, paths), names, tuple(paths), runs_on
        )
    return sources


def _class_names(paths: list[Path]) -> dict[str, list[str]]:
    """The names of classes that the files hold, by column; refuses files that disagree about them."""
    known: dict[str, list[str]] = {}
    for path in paths:
        for column, names in readers.class_names(path).items():
            if known.setdefault(column, names) != names:
                what = f"the classes of {column!r} have other names, or another order, than in {paths[0]}"
                raise Refusal(what, str(path), "write both files from one data set")
    return known


def _file_rows(paths: list[Path], options: readers.Options) -> Iterator[tuple[int, dict]]:
    """Rows of several files; the number also says which file: number * len(paths) + the file's position."""
    for position, path in enumerate(paths):
        for number, row in readers.read(path, options):
            yield number * len(paths) + position, row


def _parallel_rows(
    paths: list[Path], languages: tuple[str, ...], flag: str, encoding: str
) -> Iterator[tuple[int, dict]]:
    """Rows of files that translate each other, paired in the order in which each language's are named."""
    of_language = {
        code: [path for path in paths if readers.language(path, [code])] for code in languages
    }
    if len({len(found) for found in of_language.values()}) > 1:
        found = ", ".join(f"{len(found)} in {code}" for code, found in of_language.items())
        raise Refusal(
            f"the files do not pair up: {found}",
            flag,
            "name one file of each language, for example a.en a.de",
        )
    for group in zip(*of_language.values(), strict=True):
        position = paths.index(group[0])
        for number, row in readers.read_parallel(
            dict(zip(languages, group, strict=True)), encoding
        ):
            yield number * len(paths) + position, row


def _file_place(paths: list[Path], code: int) -> str:
    number, position = divmod(code, len(paths))
    return readers.place(paths[position], number)


def _data_set_sources(arguments: Arguments) -> dict[str, Source]:
    """A data set's splits: of a folder that save_to_disk left its files, else what the datasets library loads."""
    saved = readers.saved_splits(Path(arguments.dataset_name))
    if saved:
        return {
            split: _saved_source(split, readers.saved_files(saved[name]))
            for split, name in _splits_of(arguments, saved).items()
        }
    data, paths, sources = _load_hub(arguments), _files_of(arguments), {}
    for split, name in _splits_of(arguments, data).items():
        place, rows = partial("{}, {}, row {}".format, arguments.dataset_name, name), data[name]
        sources[split] = Source(
            split, partial(enumerate, rows, 1), place, _class_features(rows), paths
        )
    return sources


def _splits_of(arguments: Arguments, present: Iterable[str]) -> dict[str, str]:
    """Which split of the data set each split of the run is: the one that a flag names, or one with a usual name."""
    left = list(present)
    for name in filter(None, (arguments.remove_splits or "").split(",")):
        if name not in left:
            raise Refusal(
                f"no split {name!r} to remove", "--remove_splits", f"splits: {', '.join(left)}"
            )
        left.remove(name)
    found = {}
    for split, usual in SPLIT_NAMES.items():
        chosen = getattr(arguments, f"{split}_split_name")
        if chosen and chosen not in left:
            fix = did_you_mean(chosen, left, f"splits: {', '.join(left)}")
            raise Refusal(f"the data set has no split {chosen!r}", f"--{split}_split_name", fix)
        found[split] = chosen or next((name for name in usual if name in left), "")
    return {split: name for split, name in found.items() if name}


def _saved_source(split: str, paths: list[Path]) -> Source:
    rows, place = partial(_file_rows, paths, readers.PLAIN), partial(_file_place, paths)
    return Source(split, rows, place, _class_names(paths), tuple(paths))


def _load_hub(arguments: Arguments) -> dict[str, Any]:
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
        fix = "check its name, --dataset_config_name and the network; or read local files with --train_file"
        raise Refusal(
            f"cannot load the data set {arguments.dataset_name}: {reason(error)}",
            "--dataset_name",
            fix,
        ) from None


def _check_inside(arguments: Arguments) -> None:
    """Refuses a folder whose README, or whose links, name data outside of it."""
    folder = Path(arguments.dataset_name)
    if folder.is_dir():
        named = _files_of(arguments)
        links.check_inside(folder, list(named), "--dataset_name")
        for path in named:
            _check_unpacks(path)


def _files_of(arguments: Arguments) -> tuple[Path, ...]:
    """The files of a data set that is a folder here; none of one on the Hub."""
    folder, name = Path(arguments.dataset_name), arguments.dataset_config_name
    if not folder.is_dir():
        return ()
    builder = datasets.load_dataset_builder(str(folder), name, cache_dir=arguments.cache_dir)
    return tuple(
        map(Path, itertools.chain.from_iterable((builder.config.data_files or {}).values()))
    )


def _check_unpacks(path: Path) -> None:
    """Refuses a packed file, which the library knows by its first bytes, unless it is gzip of a reasonable size."""
    packing = (
        datasets.utils.extract.Extractor.infer_extractor_format(path) if path.is_file() else None
    )
    if packing == "gzip":
        readers.check_ratio(path)
    elif packing and packing != "tar":  # those are read as they are
        raise Refusal(
            f"the file is packed as {packing}", str(path), "unpack it, or name it by --train_file"
        )


def _class_features(split: Any) -> dict[str, list[str]]:
    features = {
        name: getattr(value, "feature", value) for name, value in (split.features or {}).items()
    }
    return {
        name: value.names
        for name, value in features.items()
        if isinstance(value, datasets.ClassLabel)
    }
