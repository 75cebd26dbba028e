"""Files -> rows: txt, csv, tsv, json, jsonl and parquet, each also .gz, read one row at a time with its place."""

import csv
import glob
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from recipes.common.errors import Refusal, nearest

Row = dict
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
RATIO, FLOOR = 200, 1 << 25  # gzip packs text to a fifth, and at best to a thousandth; small files may do so
LONGEST = 1 << 27  # bytes of a line, characters of a cell: text8, a well-known corpus, is one line of 10^8
QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')


def expand(patterns: list[str], flag: str, languages: Sequence[str] = ()) -> list[Path]:
    """The files that paths and globs name, in order, each once; refuses a pattern that names none.

    Names may end in a language where there are `languages`: train.en and train.de are parallel texts.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise Refusal(f"no such file: {pattern}", flag, _file_fix(pattern))
        for name in found:
            _check_readable(Path(name), flag, languages)
            paths[Path(name)] = None
    return list(paths)


def language(path: Path, languages: Sequence[str]) -> str:
    """The language that a file name ends in (train.en, train.en.txt, train.en.gz), or an empty string."""
    ending = path.name.lower().removesuffix(".gz").removesuffix(".txt").rpartition(".")[2]
    return next((code for code in languages if code.lower() == ending), "")


def read_parallel(paths: dict[str, Path]) -> Iterator[tuple[int, Row]]:
    """Pairs of (line, row) of texts that translate each other line by line; refuses texts of different lengths."""
    readers = [_guarded(_read_text, path) for path in paths.values()]
    for number, found in enumerate(zip_longest(*readers), 1):
        if None in found:
            short = list(paths.values())[found.index(None)]
            what = f"{short} ends before line {number}, the text beside it goes on"
            raise Refusal(what, f"{short}:{number}", "give two files of which every line translates the other's")
        yield number, {column: row["text"] for column, (_, row) in zip(paths, found, strict=True)}


def read(path: Path, line_breaks: bool = False) -> Iterator[tuple[int, Row]]:
    """Pairs of (number, row): the number is the line for text formats, the row for parquet and JSON arrays.

    With `line_breaks` a line of a .txt file that another follows keeps its line break.
    """
    reader = _read_running_text if line_breaks and is_plain_text(path) else READERS[_format(path)]
    yield from _guarded(reader, path)


def is_plain_text(path: Path) -> bool:
    """Whether the file's lines are its rows."""
    return READERS[_format(path)] is _read_text


def _guarded(reader: Callable[[Path], Iterator[tuple[int, Row]]], path: Path) -> Iterator[tuple[int, Row]]:
    try:
        yield from reader(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Refusal(f"the gzip data is broken: {error}", str(path), "compress or download the file again") from None
    except PermissionError:
        raise Refusal("the file may not be read", str(path), f"chmod +r {path}") from None
    except RecursionError:
        raise Refusal("the JSON is nested too deeply", str(path), "write one flat object a row") from None
    except _Bomb:
        what = f"it unpacks to more than {RATIO} times its size"
        raise Refusal(what, str(path), "unpack it yourself, if you know what it is") from None


def place(path: Path, number: int) -> str:
    """Where a row stands: `file:line`, or `file, row N` for formats without lines."""
    return f"{path}, row {number}" if _format(path) in ("json", "parquet") else f"{path}:{number}"


def content_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _format(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


def _file_fix(pattern: str) -> str:
    folder = Path(pattern).parent
    names = [path.name for path in folder.iterdir()] if os.path.isdir(folder) else []
    if not names:
        return f"the folder {folder} is missing or empty; paths are relative to the current folder"
    close = nearest(Path(pattern).name, names)
    return f"did you mean {folder / close}?" if close else f"{folder} holds {', '.join(sorted(names)[:5])}"


def _check_readable(path: Path, flag: str, languages: Sequence[str]) -> None:
    if path.is_dir():
        raise Refusal(f"{path} is a folder", flag, f"name its files: {path}/*.jsonl")
    if _format(path) not in READERS and not language(path, languages):
        known = ", ".join(READERS)
        raise Refusal(f"{path.name}: unknown file type", flag, f"use one of {known}, each also with .gz")
    if path.stat().st_size == 0:
        raise Refusal("the file is empty", str(path), "give a file with at least one row")


def _open(path: Path):
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path), FLOOR)  # so much is unpacked, and looked at, before the first row


def check_ratio(path: Path) -> None:
    """Refuses a gzip file that unpacks to more than it should; reads it once."""
    for _ in _guarded(_unpacked, path):
        pass


def _unpacked(path: Path) -> Iterator[bytes]:
    with io.BufferedReader(_Unpacked(path), FLOOR) as stream:
        yield from iter(partial(stream.read, FLOOR), b"")


class _Bomb(Exception):
    """What is unpacked is out of all proportion to its file."""


class _Unpacked(io.RawIOBase):
    """The bytes of a gzip file, as long as there are less than RATIO times as many as were read for them."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._stream = gzip.GzipFile(fileobj=self._file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer) -> int:
        number = self._stream.readinto(buffer)
        if self._stream.tell() >= max(FLOOR, RATIO * self._file.tell()):
            raise _Bomb
        return number

    def close(self) -> None:
        self._stream.close()
        self._file.close()
        super().close()


def lines(path: Path) -> Iterator[str]:
    """Decoded lines with their line ends; UTF-8 (with or without BOM) and UTF-16; broken bytes are refused by line."""
    with _open(path) as stream:
        head = stream.read(4096)
        stream.seek(0)
        encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
        if encoding != "utf-16" and b"\0" in head:
            raise Refusal("this is not text: it holds NUL bytes", f"{path}:1", "save it as UTF-8 text")
        if encoding == "utf-16":
            yield from io.StringIO(_decode(path, stream.read(), encoding), newline="\n")
            return
        for number, line in enumerate(iter(partial(stream.readline, LONGEST), b""), 1):
            if len(line) == LONGEST:
                raise Refusal(f"a line of more than {LONGEST:,} bytes", f"{path}:{number}", "break it into lines")
            yield _decode(path, line, encoding if number == 1 else "utf-8", number)


def _decode(path: Path, data: bytes, encoding: str, number: int = 1) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start]:02x} at position {error.start + 1} of the line is not {encoding.upper()}"
        fix = f"save the file as UTF-8, for example: iconv -f gb18030 -t utf-8 {path.name}"
        raise Refusal(what, f"{path}:{number}", fix) from None


def _read_text(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines(path), 1):
        yield number, {"text": line.rstrip("\r\n")}


def _read_running_text(path: Path) -> Iterator[tuple[int, Row]]:
    """Lines with their breaks, so that the rows joined are the text; the last one has none: there the text ends."""
    number, before = 0, None
    for number, line in enumerate(lines(path), 1):
        if before is not None:
            yield number - 1, {"text": before}
        before = line.replace("\r\n", "\n")
    if before is not None:
        yield number, {"text": before.removesuffix("\n")}


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(LONGEST)
    text = lines(path)
    header = next(text, "")
    delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.reader(_again(header, text), delimiter=delimiter, strict=True)
    start = 1
    columns: list[str] = []
    try:
        for cells in reader:
            if columns and cells:
                yield start, _named(columns, cells, f"{path}:{start}", delimiter)
            elif cells:
                columns = _header(cells, path)
            start = reader.line_num + 1
    except csv.Error as error:
        fix = 'write a quote inside a quoted cell twice (""), and close every quote'
        raise Refusal(f"malformed CSV: {error}", f"{path}:{start}", fix) from None


def _read_tsv(path: Path) -> Iterator[tuple[int, Row]]:
    columns: list[str] = []
    for number, line in enumerate(lines(path), 1):
        cells = [_unquoted(cell) for cell in line.rstrip("\r\n").split("\t")]
        if not columns:
            columns = _header(cells, path)
        elif line.strip():
            yield number, _named(columns, cells, f"{path}:{number}", "tab")


def _again(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if QUOTED_CELL.fullmatch(cell) else cell


def _header(cells: list[str], path: Path) -> list[str]:
    columns = [cell.strip() for cell in cells]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise Refusal(f"column {twice!r} stands twice in the header", f"{path}:1", "give every column its own name")
    return columns


def _named(columns: list[str], cells: list[str], where: str, delimiter: str) -> Row:
    if len(cells) != len(columns):
        fix = (
            "put texts that hold the delimiter in double quotes" if delimiter != "tab" else "one tab between two cells"
        )
        what = f"{len(cells)} cells, but the header names {len(columns)} columns ({', '.join(columns)})"
        raise Refusal(what, where, fix)
    return dict(zip(columns, cells, strict=True))


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines(path), 1):
        if line.strip():
            yield number, _object(_parse(line, path, number), f"{path}:{number}")


def _read_json(path: Path) -> Iterator[tuple[int, Row]]:
    text = "".join(lines(path))
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{") and first.rstrip().endswith("}") and text.strip() != first.strip():
        yield from _read_json_lines(path)
        return
    rows = _parse(text, path)
    if isinstance(rows, dict):
        rows = rows.get("data", [rows])
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield number, _object(row, f"{path}, row {number}")


def _parse(text: str, path: Path, number: int = 1):
    try:
        return JSON.decode(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{number + error.lineno - 1}:{error.colno}"
        raise Refusal(f"malformed JSON: {error.msg}", where, "write one complete JSON object a line") from None
    except ValueError as error:  # a name that stands twice, an integer of thousands of digits
        raise Refusal(f"JSON with two meanings or none: {error}", f"{path}:{number}", "write the row again") from None


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return row


JSON = json.JSONDecoder(object_pairs_hook=_once)


def _object(row, where: str) -> Row:
    if not isinstance(row, dict):
        what = f"a row must be a JSON object, not {type(row).__name__}"
        raise Refusal(what, where, 'write rows as {"text": "...", "label": "..."}')
    return row


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    with _open(path) as stream:
        source = pyarrow.BufferReader(stream.read()) if path.suffix.lower() == ".gz" else path
    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(source, page_checksum_verification=True)
        left = max(FLOOR, RATIO * path.stat().st_size)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > left:
            raise _Bomb
        for batch in file.iter_batches(64):  # a value may stand in the file once and in all its rows
            left -= batch.nbytes
            if left < 0:
                raise _Bomb
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if getattr(error, "errno", None):  # of the disk, not of the file
            raise
        what = f"not a readable parquet file: {error}"
        raise Refusal(what, place(path, number + 1), "write or download the file again") from None


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
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", buffering=1) as stream:
            yield lambda row: stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        part.replace(path)
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()


READERS = {
    "txt": _read_text,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_json_lines,
    "json": _read_json,
    "parquet": _read_parquet,
}
