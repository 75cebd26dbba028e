"""Reads the rows of files, one at a time, each with its place."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, zip_longest
from pathlib import Path

from recipes.common.data import (
    conll_rows,
    csv_rows,
    decoding,
    excel_rows,
    json_rows,
    unpacking,
)
from recipes.common.runtime.errors import Refusal

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
# Other endings of files with one word per line: eng.train, eng.testa.
OF_SENTENCES = {"train", "dev", "valid", "test", "testa", "testb"}


@dataclass(frozen=True)
class Options:
    """Says how files are read, beyond their format."""

    encoding: str = ""  # of texts that are not UTF-8
    line_breaks: bool = False  # each line of a .txt file, except the last, keeps its break
    split: tuple[str, ...] = ()  # its usual names: a JSON file or a folder may hold several splits
    words: bool = False  # .txt and .tsv files may hold one word per line, as .conll files do


PLAIN = Options()


def read_parallel(paths: dict[str, Path], encoding: str = "") -> Rows:
    """Yields pairs of (line, row) of texts that translate each other line by line.

    Refuses texts of different lengths.
    """
    readers = [_guarded(_read_text, path, Options(encoding)) for path in paths.values()]
    for number, found in enumerate(zip_longest(*readers), 1):
        if None in found:
            short = list(paths.values())[found.index(None)]
            what = f"{short} ends before line {number}, but the text beside it continues"
            fix = "give two files in which each line translates the other's line"
            raise Refusal(what, f"{short}:{number}", fix)
        texts = [row["text"] for _, row in found]
        yield number, dict(zip(paths, texts, strict=True))


def read(path: Path, options: Options = PLAIN) -> Rows:
    """Yields pairs of (number, row).

    The number is the line for text formats, and the row for parquet, Arrow, Excel and JSON.
    """
    known = format_of(path)
    if options.words and known in OF_SENTENCES:
        known = "conll"
    yield from _guarded(READERS[known], path, options)


def is_plain_text(path: Path) -> bool:
    """Whether the file's lines are its rows."""
    return format_of(path) == "txt"


def holds_sentences(path: Path, encoding: str = "") -> bool:
    """Whether each line has a word and the same number of labels, with empty lines between."""
    first = list(islice(decoding.lines(path, encoding), conll_rows.LOOKED_AT))
    widths = {len(line.split()) for line in first if line.strip()}
    return conll_rows.are_sentences(first) and len(widths) == 1


def class_names(path: Path) -> dict[str, list[str]]:
    """Returns the class names of each column that a file of the datasets library holds.

    Only parquet and Arrow files hold such names.
    """
    if format_of(path) not in ("parquet", "arrow"):
        return {}
    from recipes.common.data import arrow_rows

    return arrow_rows.class_names(path, format_of(path))


def place(path: Path, number: int) -> str:
    """Returns where a row is: `file:line`, or `file, row N` for formats without lines."""
    if _has_lines(path):
        return f"{path}:{number}"
    return f"{path}, row {number}"


@lru_cache(maxsize=1024)
def _has_lines(path: Path) -> bool:
    return format_of(path) not in WITHOUT_LINES


def _guarded(reader: Callable[[Path, Options], Rows], path: Path, options: Options) -> Rows:
    try:
        yield from reader(path, options)
    except PermissionError:
        raise Refusal("the file may not be read", str(path), f"chmod +r {path}") from None
    except RecursionError:
        fix = "write one flat object per row"
        raise Refusal("the JSON is nested too deeply", str(path), fix) from None


def format_of(path: Path) -> str:
    """Returns the format, by the ending of the name; for a packed file, of the name inside."""
    ending = unpacking.content_name(path).lower().rpartition(".")[2]
    return ALIASES.get(ending, ending)


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
    """Yields lines with their breaks, so that the joined rows are the text.

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
