"""Paths, patterns and folders -> files, and files -> rows, one at a time, each with its place."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from recipes.common.data import csv_rows, decoding, excel_rows, json_rows, unpacking
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, warn

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
}
ALIASES |= {
    "jsonlines": "jsonl",
    "pq": "parquet",
    "parq": "parquet",
    "feather": "arrow",
    "xlsm": "xlsx",
}
# What to do about files that are not read.
ELSEWHERE = dict.fromkeys(("tar", "tgz", "7z", "rar", "lz4"), "unpack it, and name its files")
ELSEWHERE |= dict.fromkeys(("xls", "xlsb", "ods", "numbers"), "save it as .xlsx, or as CSV UTF-8")
ELSEWHERE |= dict.fromkeys(
    ("pdf", "doc", "docx", "rtf", "html", "htm", "epub", "xml"), "save its text as a .txt file"
)
WEB = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# How the files of a folder may be called that are for another purpose than the others.
PARTS = re.compile(r"(train|valid|validation|val|dev|test|eval)\b", re.IGNORECASE)
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"  # of the datasets library's save_to_disk


@dataclass(frozen=True)
class Options:
    """How files are read beyond their format."""

    encoding: str = ""  # of texts that are not UTF-8
    line_breaks: bool = False  # a line of a .txt file that another follows keeps its line break
    split: tuple[
        str, ...
    ] = ()  # its usual names, which a JSON file or a folder may have beside others


PLAIN = Options()


def expand(
    patterns: list[str], flag: str, languages: Sequence[str] = (), split: Sequence[str] = ()
) -> list[Path]:
    """The files that paths, globs and folders name, in order, each once; refuses a pattern that names none.

    Names may end in a language where there are `languages`: train.en and train.de are parallel texts.
    """
    decoding.begin_to_speak()
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = matching(pattern, split)
        if not found:
            raise Refusal(f"no such file: {pattern}", flag, _file_fix(pattern))
        for path in found:
            _check_readable(path, flag, languages)
            paths[path] = None
    return _without_empty(list(paths), languages)


def one(path: Path, flag: str, encoding: str = "") -> Path:
    """The one file that a path or a glob names; refuses several, and an `encoding` that is none."""
    decoding.check(encoding)
    found = expand([str(path)], flag)
    if len(found) > 1:
        shown = ", ".join(map(str, found[:5]))
        raise Refusal(
            f"{path} names {len(found)} files: {shown}", flag, "name one of them at a time"
        )
    return found[0]


def matching(pattern: str, split: Sequence[str] = ()) -> list[Path]:
    """The files that a path, a glob or a folder names, which may be none."""
    home = os.path.expanduser(pattern)
    found = [home] if os.path.exists(home) else sorted(glob.glob(home, recursive=True))
    paths = (_inside(path, split) if path.is_dir() else [path] for path in map(Path, found))
    return [path for some in paths for path in some]


def language(path: Path, languages: Sequence[str]) -> str:
    """The language that a file name ends in (train.en, train.en.txt, train.en.gz), or an empty string."""
    name = path.stem if unpacking.packing(path) else path.name
    ending = name.lower().removesuffix(".txt").rpartition(".")[2]
    return next((code for code in languages if code.lower() == ending), "")


def read_parallel(paths: dict[str, Path], encoding: str = "") -> Rows:
    """Pairs of (line, row) of texts that translate each other line by line; refuses texts of different lengths."""
    readers = [_guarded(_read_text, path, Options(encoding)) for path in paths.values()]
    for number, found in enumerate(zip_longest(*readers), 1):
        if None in found:
            short = list(paths.values())[found.index(None)]
            what = f"{short} ends before line {number}, the text beside it goes on"
            raise Refusal(
                what,
                f"{short}:{number}",
                "give two files of which every line translates the other's",
            )
        yield number, {column: row["text"] for column, (_, row) in zip(paths, found, strict=True)}


def read(path: Path, options: Options = PLAIN) -> Rows:
    """Pairs of (number, row): the number is the line for text formats, the row for parquet, Arrow, Excel and JSON."""
    yield from _guarded(READERS[_format(path)], path, options)


def is_plain_text(path: Path) -> bool:
    """Whether the file's lines are its rows."""
    return _format(path) == "txt"


def class_names(path: Path) -> dict[str, list[str]]:
    """The names of classes by column that a parquet or Arrow file of the datasets library holds."""
    if _format(path) not in ("parquet", "arrow"):
        return {}
    from recipes.common.data import arrow_rows

    return arrow_rows.class_names(path, _format(path))


def place(path: Path, number: int) -> str:
    """Where a row stands: `file:line`, or `file, row N` for formats without lines."""
    return f"{path}:{number}" if _has_lines(path) else f"{path}, row {number}"


@lru_cache(maxsize=1024)
def _has_lines(path: Path) -> bool:
    return _format(path) not in WITHOUT_LINES


def _guarded(reader: Callable[[Path, Options], Rows], path: Path, options: Options) -> Rows:
    try:
        yield from reader(path, options)
    except PermissionError:
        raise Refusal("the file may not be read", str(path), f"chmod +r {path}") from None
    except RecursionError:
        raise Refusal(
            "the JSON is nested too deeply", str(path), "write one flat object a row"
        ) from None


def _format(path: Path) -> str:
    """The format, by the ending of the name; of a packed file by that of what is packed."""
    ending = unpacking.content_name(path).lower().rpartition(".")[2]
    return ALIASES.get(ending, ending)


def _file_fix(pattern: str) -> str:
    """What to do about a path that names no file."""
    if WEB.match(pattern):
        return _web_fix(pattern)
    if "," in pattern and all(map(matching, pattern.split(","))):
        return f"put spaces between files, not commas: {pattern.replace(',', ' ')}"
    folder = Path(pattern).parent
    names = [path.name for path in folder.iterdir()] if os.path.isdir(folder) else []
    if not names:
        return f"the folder {folder} is missing or empty; paths are relative to the current folder"
    close = nearest(Path(pattern).name, names)
    return (
        f"did you mean {folder / close}?"
        if close
        else f"{folder} holds {', '.join(sorted(names)[:5])}"
    )


def _web_fix(address: str) -> str:
    scheme = address.partition(":")[0].lower()
    if scheme == "hf":
        return "a data set of the Hub is named by --dataset_name OWNER/NAME"
    if scheme == "file":
        return f"name the path: {address.partition('://')[2]}"
    command = {"s3": "aws s3 cp", "gs": "gcloud storage cp"}.get(scheme, "curl -LO")
    return f"files are read from this machine: download it, for example {command} {address}"


def _inside(folder: Path, split: Sequence[str]) -> list[Path]:
    """The files of a folder that are its rows: of one format, and all for the same purpose."""
    saved = saved_splits(folder)
    if saved:
        return _saved_split(folder, saved, split)
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    found = [path for path in inside if path.is_file() and _is_data(path)]
    formats = sorted({_format(path) for path in found})
    parts = {match[1].lower() for path in found if (match := PARTS.match(path.name))}
    if not found:
        fix = f"name files further down: '{folder}/**/*.txt'" if inside else "name the files"
        raise Refusal(f"the folder {folder} holds no file that can be read", str(folder), fix)
    if len(formats) > 1 or (parts and len(found) > 1):
        why = (
            f"files of several kinds ({', '.join(formats)})"
            if len(formats) > 1
            else "files for several purposes"
        )
        names = ", ".join(path.name for path in found[:5])
        fix = f"name the files that are meant, for example {found[0]} or '{folder}/*{found[0].suffix}'"
        raise Refusal(f"the folder {folder} holds {why}: {names}", str(folder), fix)
    decoding.say_once(f"{folder}: {len(found)} {formats[0]} files are read")
    return found


def _is_data(path: Path) -> bool:
    is_note = path.stem.lower().startswith(unpacking.BESIDE)
    return not is_note and unpacking.packing(path) != "zip" and _format(path) in READERS


def saved_splits(folder: Path) -> dict[str, Path]:
    """The folders of the splits that `save_to_disk` of the datasets library left here; none where it did not."""
    if (folder / SAVED_SPLITS).is_file():
        return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{SAVED}"))}
    return {"train": folder} if (folder / SAVED).is_file() else {}


def _saved_split(folder: Path, present: dict[str, Path], split: Sequence[str]) -> list[Path]:
    """The files of the wanted split, or of the only one."""
    chosen = next((name for name in split if name in present), None)
    if chosen is None and len(present) > 1:
        fix = f"name one of them: {folder}/{next(iter(present))}; or all of them: --dataset_name {folder}"
        raise Refusal(
            f"the folder {folder} holds the splits {', '.join(present)}", str(folder), fix
        )
    return saved_files(present[chosen or next(iter(present))])


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files that Dataset.save_to_disk left, in their order."""
    try:
        state = json.loads((folder / SAVED).read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
        paths = [folder / name for name in names]
        whole = bool(paths) and all(
            path.is_file() and path.resolve().parent == folder.resolve() for path in paths
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        whole = False
    if not whole or state.get("_indices_data_files"):
        raise Refusal(
            "this is not what save_to_disk leaves", str(folder / SAVED), "save the data set again"
        )
    return paths


def _check_readable(path: Path, flag: str, languages: Sequence[str]) -> None:
    ending = _format(path)
    if ending not in READERS and not language(path, languages):
        known = f"use one of {', '.join(READERS)}, each also with .gz, .bz2, .xz, .zst or .zip"
        raise Refusal(f"{path.name}: unknown file type", flag, ELSEWHERE.get(ending, known))


def _without_empty(paths: list[Path], languages: Sequence[str]) -> list[Path]:
    """The files that hold something; an empty one alone is refused, and one of several texts in parallel."""
    empty = [path for path in paths if not path.stat().st_size]
    parallel = [path for path in empty if language(path, languages)]
    if parallel or (empty and len(empty) == len(paths)):
        raise Refusal(
            "the file is empty", str((parallel or empty)[0]), "give a file with at least one row"
        )
    for path in empty:
        warn(f"{path} is empty: it adds no row")
    return [path for path in paths if path not in empty]


@contextmanager
def rows_to(path: Path | None, read: Path | None = None) -> Iterator[Callable[[Row], Any]]:
    """A function that writes a row into a file of JSON lines, which replaces what is at `path` when all are written;
    whoever stops it before finds the rows so far in PATH.part. Refuses a folder, and the file that is `read` meanwhile.
    """
    if path is None:
        yield lambda row: None
        return
    if path.is_dir() or (read and path.exists() and path.samefile(read)):
        what = "a folder" if path.is_dir() else "the file that is read"
        raise Refusal(f"{path} is {what}", "--output", "name another file")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except (FileExistsError, NotADirectoryError) as error:
        raise Refusal(
            f"cannot write below {error.filename}: no folder", f"--output {path}", "name another"
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise Refusal(
            f"cannot write: {error.strerror}", f"--output {path}", "name another file"
        ) from None
    with part.open("a", encoding="utf-8", buffering=1) as stream:
        _keep_others_out(stream, path)
        stream.truncate(0)  # rows of a process that was killed
        try:
            yield lambda row: stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            if fcntl:  # while it is locked
                part.replace(path)
        finally:
            if fcntl and part.exists() and not part.stat().st_size:
                part.unlink()
    if not fcntl:  # Windows renames no open file
        part.replace(path)


def _keep_others_out(stream: IO, path: Path) -> None:
    try:
        if fcntl:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fix = "wait for it, or name another file"
        raise Refusal(f"another process writes {path}", "--output", fix) from None
    except OSError:  # the file system has no locks
        return


def _read_text(path: Path, options: Options) -> Rows:
    found = decoding.lines(path, options.encoding)
    if options.line_breaks:
        yield from _running(found)
        return
    for number, line in enumerate(found, 1):
        yield number, {"text": line.rstrip("\r\n")}


def _running(lines: Iterable[str]) -> Rows:
    """Lines with their breaks, so that the rows joined are the text; the last one has none: there the text ends."""
    number, before = 0, None
    for number, line in enumerate(lines, 1):
        if before is not None:
            yield number - 1, {"text": before}
        before = line.replace("\r\n", "\n")
    if before is not None:
        yield number, {"text": before.removesuffix("\n")}


def _data_lines(path: Path, options: Options) -> Iterator[str]:
    """The file's lines; refuses a web page, which is what the address of a page about a file brings."""
    for number, line in enumerate(decoding.lines(path, options.encoding)):
        if number == 0 and line.lstrip().lower().startswith(("<!doctype html", "<html")):
            fix = "download the file itself: on GitHub by Raw, on the Hub by the arrow beside its name"
            raise Refusal("this is a web page, not a file of rows", f"{path}:1", fix)
        yield line


def _read_csv(path: Path, options: Options) -> Rows:
    return csv_rows.rows(_data_lines(path, options), path, "csv")


def _read_tsv(path: Path, options: Options) -> Rows:
    return csv_rows.rows(_data_lines(path, options), path, "tsv")


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
}
WITHOUT_LINES = ("json", "parquet", "arrow", "xlsx")
