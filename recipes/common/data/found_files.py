"""Finds the files that paths, patterns and folders name."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from recipes.common.data import decoding, readers, saved_folders, unpacking
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, warn

# What to do about files that are not read -> the endings of such files.
ELSEWHERE = {
    "unpack it, and name its files": ("tar", "tgz", "7z", "rar", "lz4"),
    "save it as .xlsx, or as CSV UTF-8": ("xls", "xlsb", "ods", "numbers"),
    "save its text as a .txt file": ("pdf", "doc", "docx", "rtf", "html", "htm", "epub", "xml"),
}
WEB = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# The beginnings of file names that say for which split a file is.
PARTS = re.compile(r"(train|valid|validation|val|dev|test|eval)\b", re.IGNORECASE)


def expand(
    patterns: list[str],
    flag: str,
    languages: Sequence[str] = (),
    split: Sequence[str] = (),
    words: bool = False,
) -> list[Path]:
    """Returns the files that paths, globs and folders name, in order, each once.

    Refuses a pattern that names none. A name may end in one of the `languages`: train.en and
    train.de are parallel texts. With `words` it may end as CoNLL-2003's do: eng.train.
    """
    decoding.begin_to_speak()
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = matching(pattern, split)
        if not found:
            raise Refusal(f"no such file: {pattern}", flag, _file_fix(pattern))
        for path in found:
            if not (words and readers.format_of(path) in readers.OF_SENTENCES):
                _check_readable(path, flag, languages)
            paths[path] = None
    return _without_empty(list(paths), languages)


def one(path: Path, flag: str, encoding: str = "") -> Path:
    """Returns the one file that a path or a glob names.

    Refuses several files, and an unknown `encoding`.
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


def _inside(folder: Path, split: Sequence[str]) -> list[Path]:
    """Returns the data files of a folder. All have one format and one purpose."""
    saved = saved_folders.splits(folder)
    if saved:
        return saved_folders.split_files(folder, saved, split)
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
    decoding.say_once(f"{folder}: {len(found)} {readers.format_of(found[0])} files are read")
    return found


def _mixture(paths: list[Path]) -> str:
    """Returns why the files of a folder are not one set of rows, or an empty string."""
    formats = sorted(set(map(readers.format_of, paths)))
    if len(formats) > 1:
        return f"files of several kinds ({', '.join(formats)})"
    if len(paths) > 1 and any(PARTS.match(path.name) for path in paths):
        return "files for several purposes"
    return ""


def _is_data(path: Path) -> bool:
    if not path.is_file() or path.stem.lower().startswith(unpacking.BESIDE):
        return False
    return unpacking.packing(path) != "zip" and readers.format_of(path) in readers.READERS


def _check_readable(path: Path, flag: str, languages: Sequence[str]) -> None:
    ending = readers.format_of(path)
    if ending not in readers.READERS and not language(path, languages):
        raise Refusal(f"{path.name}: unknown file type", flag, _type_fix(ending))


def _type_fix(ending: str) -> str:
    for advice, endings in ELSEWHERE.items():
        if ending in endings:
            return advice
    return f"use one of {', '.join(readers.READERS)}, each also with .gz, .bz2, .xz, .zst or .zip"


def _without_empty(paths: list[Path], languages: Sequence[str]) -> list[Path]:
    """Returns the files that hold something.

    Refuses empty files if all are empty, and an empty one of several parallel texts.
    """
    empty = [path for path in paths if not path.stat().st_size]
    parallel = [path for path in empty if language(path, languages)]
    if parallel or (empty and len(empty) == len(paths)):
        first = (parallel or empty)[0]
        raise Refusal("the file is empty", str(first), "give a file with at least one row")
    for path in empty:
        warn(f"{path} is empty: it adds no row")
    return [path for path in paths if path not in empty]


def _file_fix(pattern: str) -> str:
    """Returns what to do about a path that names no file."""
    if WEB.match(pattern):
        return _web_fix(pattern)
    if "," in pattern and all(map(matching, pattern.split(","))):
        return f"put spaces between files, not commas: {pattern.replace(',', ' ')}"
    folder = Path(pattern).parent
    inside = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names = [name for name in inside if not name.startswith(".")]
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
