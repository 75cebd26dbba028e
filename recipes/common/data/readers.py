"""Finds the files that paths, patterns and folders name, and reads their rows.

Rows come one at a time, each with its place.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from types import ModuleType
from typing import IO

from recipes.common.data import (
    conll_rows,
    csv_rows,
    decoding,
    excel_rows,
    json_rows,
    unpacking,
)
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, warn

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

Row = dict
Rows = Iterator[tuple[int, Row]]
# Other endings of the same formats.
ALIASES = {
    "text": "txt",
    "raw": "txt",
    "tokens": "txt",
    "md": "txt",
    "tab": "tsv",
    "ndjson": "jsonl",
    "jsonlines": "jsonl",
    "pq": "parquet",
    "parq": "parquet",
    "feather": "arrow",
    "xlsm": "xlsx",
    "bio": "conll",
    "iob": "conll",
    "iob2": "conll",
    "bioes": "conll",
    "bmes": "conll",
}
# How files of one word per line may end, too: eng.train, eng.testa.
OF_SENTENCES = {"train", "dev", "valid", "test", "testa", "testb"}
# What to do about files that are not read -> the endings of such files.
ELSEWHERE = {
    "unpack it, and name its files": ("tar", "tgz", "7z", "rar", "lz4"),
    "save it as .xlsx, or as CSV UTF-8": ("xls", "xlsb", "ods", "numbers"),
    "save its text as a .txt file": ("pdf", "doc", "docx", "rtf", "html", "htm", "epub", "xml"),
}
WEB = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# The beginnings of file names that say for which split a file is.
PARTS = re.compile(r"(train|valid|validation|val|dev|test|eval)\b", re.IGNORECASE)
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"  # of the datasets library's save_to_disk


@dataclass(frozen=True)
class Options:
    """The ways in which files are read, beyond their format."""

    encoding: str = ""  # of texts that are not UTF-8
    line_breaks: bool = False  # a line of a .txt file that another follows keeps its line break
    split: tuple[str, ...] = ()  # its usual names: a JSON file or a folder may hold several
    words: bool = False  # .txt and .tsv files may hold one word per line, as .conll files do


PLAIN = Options()


def expand(
    patterns: list[str],
    flag: str,
    languages: Sequence[str] = (),
    split: Sequence[str] = (),
    words: bool = False,
) -> list[Path]:
    """Returns the files that paths, globs and folders name, in order, each once.

    Refuses a pattern that names none. A name may end in one of the `languages`: train.en and
    train.de are parallel texts. With `words` it may end as those of CoNLL-2003: eng.train.
    """
    decoding.begin_to_speak()
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = matching(pattern, split)
        if not found:
            raise Refusal(f"no such file: {pattern}", flag, _file_fix(pattern))
        for path in found:
            if not (words and _format(path) in OF_SENTENCES):
                _check_readable(path, flag, languages)
            paths[path] = None
    return _without_empty(list(paths), languages)


def one(path: Path, flag: str, encoding: str = "") -> Path:
    """Returns the one file that a path or a glob names.

    Refuses several files, and an `encoding` that is none.
    """
    decoding.check(encoding)
    found = expand([str(path)], flag)
    if len(found) > 1:
        shown = ", ".join(map(str, found[:5]))
        raise Refusal(f"{path} names {len(found)} files: {shown}", flag, "name one of them")
    return found[0]


def matching(pattern: str, split: Sequence[str] = ()) -> list[Path]:
    """Returns the files that a path, a glob or a folder names, which may be none."""
    home = os.path.expanduser(pattern)
    found = [home]
    if not os.path.exists(home):
        found = sorted(glob.glob(home, recursive=True))
    files: list[Path] = []
    for path in map(Path, found):
        if path.is_dir():
            files += _inside(path, split)
        else:
            files.append(path)
    return files


def language(path: Path, languages: Sequence[str]) -> str:
    """Returns the language that a file name ends in, or an empty string.

    Such names are train.en, train.en.txt, train.en.gz.
    """
    name = path.stem if unpacking.packing(path) else path.name
    ending = name.lower().removesuffix(".txt").rpartition(".")[2]
    for code in languages:
        if code.lower() == ending:
            return code
    return ""


def read_parallel(paths: dict[str, Path], encoding: str = "") -> Rows:
    """Yields pairs of (line, row) of texts that translate each other line by line.

    Refuses texts of different lengths.
    """
    readers = [_guarded(_read_text, path, Options(encoding)) for path in paths.values()]
    for number, found in enumerate(zip_longest(*readers), 1):
        if None in found:
            short = list(paths.values())[found.index(None)]
            what = f"{short} ends before line {number}, but the text beside it continues"
            fix = "give two files of which every line translates the other's"
            raise Refusal(what, f"{short}:{number}", fix)
        texts = [row["text"] for _, row in found]
        yield number, dict(zip(paths, texts, strict=True))


def read(path: Path, options: Options = PLAIN) -> Rows:
    """Yields pairs of (number, row).

    The number is the line for text formats, and the row for parquet, Arrow, Excel and JSON.
    """
    known = _format(path)
    if options.words and known in OF_SENTENCES:
        known = "conll"
    yield from _guarded(READERS[known], path, options)


def is_plain_text(path: Path) -> bool:
    """Whether the file's lines are its rows."""
    return _format(path) == "txt"


def holds_sentences(path: Path, encoding: str = "") -> bool:
    """Whether a text has one word per line with as many labels, and empty lines between."""
    first = list(islice(decoding.lines(path, encoding), conll_rows.LOOKED_AT))
    widths = {len(line.split()) for line in first if line.strip()}
    return conll_rows.are_sentences(first) and len(widths) == 1


def class_names(path: Path) -> dict[str, list[str]]:
    """Returns the class names of each column that a file of the datasets library holds.

    Only parquet and Arrow files hold such names.
    """
    if _format(path) not in ("parquet", "arrow"):
        return {}
    from recipes.common.data import arrow_rows

    return arrow_rows.class_names(path, _format(path))


def place(path: Path, number: int) -> str:
    """Returns where a row is: `file:line`, or `file, row N` for formats without lines."""
    if _has_lines(path):
        return f"{path}:{number}"
    return f"{path}, row {number}"


@lru_cache(maxsize=1024)
def _has_lines(path: Path) -> bool:
    return _format(path) not in WITHOUT_LINES


def _guarded(reader: Callable[[Path, Options], Rows], path: Path, options: Options) -> Rows:
    try:
        yield from reader(path, options)
    except PermissionError:
        raise Refusal("the file may not be read", str(path), f"chmod +r {path}") from None
    except RecursionError:
        fix = "write one flat object per row"
        raise Refusal("the JSON is nested too deeply", str(path), fix) from None


def _format(path: Path) -> str:
    """Returns the format, by the ending of the name; for a packed file, of the name inside."""
    ending = unpacking.content_name(path).lower().rpartition(".")[2]
    return ALIASES.get(ending, ending)


def _file_fix(pattern: str) -> str:
    """Returns what to do about a path that names no file."""
    if WEB.match(pattern):
        return _web_fix(pattern)
    if "," in pattern and all(map(matching, pattern.split(","))):
        return f"put spaces between files, not commas: {pattern.replace(',', ' ')}"
    folder = Path(pattern).parent
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if not names:
        return f"the folder {folder} is missing or empty; paths are relative to the current folder"
    close = nearest(Path(pattern).name, names)
    if close:
        return f"did you mean {folder / close}?"
    return f"{folder} holds {', '.join(names[:5])}"


def _web_fix(address: str) -> str:
    scheme = address.partition(":")[0].lower()
    if scheme == "hf":
        return "a data set of the Hub is named by --dataset_name OWNER/NAME"
    if scheme == "file":
        return f"name the path: {address.partition('://')[2]}"
    command = {"s3": "aws s3 cp", "gs": "gcloud storage cp"}.get(scheme, "curl -LO")
    return f"files are read from this machine: download it, for example {command} {address}"


def _inside(folder: Path, split: Sequence[str]) -> list[Path]:
    """Returns the files of a folder that are its rows: of one format, and for one purpose."""
    saved = saved_splits(folder)
    if saved:
        return _saved_split(folder, saved, split)
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    found = list(filter(_is_data, inside))
    if not found:
        fix = f"name files further down: '{folder}/**/*.txt'" if inside else "name the files"
        raise Refusal(f"the folder {folder} holds no file that can be read", str(folder), fix)
    mixed = _mixture(found)
    if mixed:
        names = ", ".join(path.name for path in found[:5])
        pattern = f"'{folder}/*{found[0].suffix}'"
        fix = f"name the files that are meant, for example {found[0]} or {pattern}"
        raise Refusal(f"the folder {folder} holds {mixed}: {names}", str(folder), fix)
    decoding.say_once(f"{folder}: {len(found)} {_format(found[0])} files are read")
    return found


def _mixture(paths: list[Path]) -> str:
    """Returns why the files of a folder are not one set of rows, or an empty string."""
    formats = sorted(set(map(_format, paths)))
    if len(formats) > 1:
        return f"files of several kinds ({', '.join(formats)})"
    if len(paths) > 1 and any(PARTS.match(path.name) for path in paths):
        return "files for several purposes"
    return ""


def _is_data(path: Path) -> bool:
    if not path.is_file() or path.stem.lower().startswith(unpacking.BESIDE):
        return False
    return unpacking.packing(path) != "zip" and _format(path) in READERS


def saved_splits(folder: Path) -> dict[str, Path]:
    """Returns the folders of the splits that `save_to_disk` of the datasets library left here.

    Returns none for a folder that it did not write.
    """
    if (folder / SAVED_SPLITS).is_file():
        return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{SAVED}"))}
    if (folder / SAVED).is_file():
        return {"train": folder}
    return {}


def _saved_split(folder: Path, present: dict[str, Path], split: Sequence[str]) -> list[Path]:
    """Returns the files of the wanted split, or of the only one."""
    for name in split:
        if name in present:
            return saved_files(present[name])
    first = next(iter(present))
    if len(present) > 1:
        what = f"the folder {folder} holds the splits {', '.join(present)}"
        fix = f"name one of them: {folder}/{first}; or all of them: --dataset_name {folder}"
        raise Refusal(what, str(folder), fix)
    return saved_files(present[first])


def saved_files(folder: Path) -> list[Path]:
    """Returns the Arrow files that Dataset.save_to_disk left, in their order."""
    try:
        state = json.loads((folder / SAVED).read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
        paths = [folder / name for name in names]
        is_whole = bool(paths) and all(_is_in(folder, path) for path in paths)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        is_whole = False
    if not is_whole or state.get("_indices_data_files"):
        what = "this is not what save_to_disk leaves"
        raise Refusal(what, str(folder / SAVED), "save the data set again")
    return paths


def _is_in(folder: Path, path: Path) -> bool:
    return path.is_file() and path.resolve().parent == folder.resolve()


def _check_readable(path: Path, flag: str, languages: Sequence[str]) -> None:
    ending = _format(path)
    if ending not in READERS and not language(path, languages):
        raise Refusal(f"{path.name}: unknown file type", flag, _type_fix(ending))


def _type_fix(ending: str) -> str:
    for advice, endings in ELSEWHERE.items():
        if ending in endings:
            return advice
    return f"use one of {', '.join(READERS)}, each also with .gz, .bz2, .xz, .zst or .zip"


def _without_empty(paths: list[Path], languages: Sequence[str]) -> list[Path]:
    """Returns the files that hold something.

    Refuses an empty file alone, and an empty one of several texts in parallel.
    """
    empty = [path for path in paths if not path.stat().st_size]
    parallel = [path for path in empty if language(path, languages)]
    if parallel or (empty and len(empty) == len(paths)):
        first = (parallel or empty)[0]
        raise Refusal("the file is empty", str(first), "give a file with at least one row")
    for path in empty:
        warn(f"{path} is empty: it adds no row")
    return [path for path in paths if path not in empty]


@contextmanager
def rows_to(path: Path | None, read: Path | None = None) -> Iterator[Callable[[Row], None]]:
    """Yields a function that writes a row into a file of JSON lines.

    The file replaces what is at `path` when all rows are written. If the program is stopped before,
    the rows so far are in PATH.part. Refuses a folder, and the file that is `read` meanwhile.
    """
    if path is None:
        yield _write_nowhere
        return
    if path.is_dir() or (read and path.exists() and path.samefile(read)):
        what = "a folder" if path.is_dir() else "the file that is read"
        raise Refusal(f"{path} is {what}", "--output", "name another file")
    part = path.with_name(f"{path.name}.part")
    _begin(part, path)
    with part.open("a", encoding="utf-8", buffering=1) as stream:
        _keep_others_out(stream, path)
        stream.truncate(0)  # rows of a process that was killed
        try:
            yield partial(_write_row, stream)
            stream.flush()
            if fcntl:  # while it is locked
                part.replace(path)
        finally:
            if fcntl and part.exists() and not part.stat().st_size:
                part.unlink()
    if not fcntl:  # Windows renames no open file
        part.replace(path)


def _write_row(stream: IO, row: Row) -> None:
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_nowhere(row: Row) -> None:
    return


def _begin(part: Path, path: Path) -> None:
    """Makes the file of the rows so far, and its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except (FileExistsError, NotADirectoryError) as error:
        what = f"cannot write below {error.filename}: it is not a folder"
        raise Refusal(what, f"--output {path}", "name another") from None
    except (IsADirectoryError, PermissionError) as error:
        what = f"cannot write: {error.strerror}"
        raise Refusal(what, f"--output {path}", "name another file") from None


def _keep_others_out(stream: IO, path: Path) -> None:
    """Locks the file, where there are locks."""
    try:
        if fcntl:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fix = "wait for it, or name another file"
        raise Refusal(f"another process writes {path}", "--output", fix) from None
    except OSError:  # the file system has no locks
        return


def _read_text(path: Path, options: Options) -> Rows:
    if options.words:
        yield from _read_conll(path, options)
        return
    found = decoding.lines(path, options.encoding)
    if options.line_breaks:
        yield from _running(found)
        return
    for number, line in enumerate(found, 1):
        yield number, {"text": line.rstrip("\r\n")}


def _running(lines: Iterable[str]) -> Rows:
    """Yields lines with their breaks, so that the rows joined are the text.

    The last line has no break: there the text ends.
    """
    number, before = 0, None
    for number, line in enumerate(lines, 1):
        if before is not None:
            yield number - 1, {"text": before}
        before = line.replace("\r\n", "\n")
    if before is not None:
        yield number, {"text": before.removesuffix("\n")}


def _data_lines(path: Path, options: Options) -> Iterator[str]:
    """Yields the file's lines; refuses a web page.

    A download from the address of a page about a file gives such a page.
    """
    lines = decoding.lines(path, options.encoding)
    first = next(lines, "")
    if first.lstrip().lower().startswith(("<!doctype html", "<html")):
        where_to = "on GitHub by Raw, on the Hub by the arrow beside its name"
        fix = f"download the file itself: {where_to}"
        raise Refusal("this is a web page, not a file of rows", f"{path}:1", fix)
    if first:
        yield first
    yield from lines


def _read_csv(path: Path, options: Options) -> Rows:
    return csv_rows.rows(_data_lines(path, options), path, "csv")


def _read_tsv(path: Path, options: Options) -> Rows:
    lines = _data_lines(path, options)
    if not options.words:
        return csv_rows.rows(lines, path, "tsv")
    first = list(islice(lines, conll_rows.LOOKED_AT))
    lines = chain(first, lines)
    if conll_rows.are_sentences(first):
        return conll_rows.rows(lines, path, "conll")
    return csv_rows.rows(lines, path, "tsv")


def _read_conll(path: Path, options: Options) -> Rows:
    return conll_rows.rows(_data_lines(path, options), path, "conll")


def _read_conllu(path: Path, options: Options) -> Rows:
    return conll_rows.rows(_data_lines(path, options), path, "conllu")


def _read_json_lines(path: Path, options: Options) -> Rows:
    return json_rows.rows_of_lines(_data_lines(path, options), path)


def _read_json(path: Path, options: Options) -> Rows:
    return json_rows.rows(_data_lines(path, options), path, options.split)


def _read_parquet(path: Path, options: Options) -> Rows:
    from recipes.common.data import arrow_rows

    return arrow_rows.parquet_rows(path)


def _read_arrow(path: Path, options: Options) -> Rows:
    from recipes.common.data import arrow_rows

    return arrow_rows.arrow_rows(path)


def _read_workbook(path: Path, options: Options) -> Rows:
    return excel_rows.rows(path)


READERS = {
    "txt": _read_text,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_json_lines,
    "json": _read_json,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "xlsx": _read_workbook,
    "conll": _read_conll,
    "conllu": _read_conllu,
}
WITHOUT_LINES = ("json", "parquet", "arrow", "xlsx")
