"""Reads rows from the lines of a table.

It reads csv and tsv as spreadsheets, pandas, databases and Kaggle write them.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from recipes.common.data import decoding
from recipes.common.runtime.errors import Refusal

Row = dict
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
USUAL = {"csv": (",", ";"), "tsv": ("\t",)}  # delimiters that need no note; the first is the usual
LOOKED_AT = 100  # lines by which the delimiter is found
# Excel's first line, which is no row.
SEPARATOR = re.compile(r'"?sep=([,;|:^~#\t ])"?', re.IGNORECASE)
QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
JOINED = 1000  # the most lines of one cell in a tsv file
# Characters and words of a name that few columns have.
LONG_NAME, MANY_WORDS = 60, 4
HEADER = "if the first line is data, write the columns' names above it"


def rows(lines: Iterator[str], path: Path, ending: str) -> Iterator[tuple[int, Row]]:
    """Yields pairs of line and row of a csv or tsv file.

    Refuses rows that do not fit the header.
    """
    csv.field_size_limit(decoding.LONGEST)
    first = next(lines, "")
    separator = SEPARATOR.fullmatch(first.rstrip("\r\n"))
    if separator:
        delimiter, lines_before = separator[1], 1
    else:
        start = [first, *islice(lines, LOOKED_AT - 1)]
        delimiter, lines_before = _delimiter(start, ending), 0
        lines = chain(start, lines)
        if delimiter not in USUAL[ending]:
            decoding.say_once(f"{path}: its cells are separated by {DELIMITERS[delimiter]}")
    if delimiter == "\t":
        yield from _tab_rows(lines, path, lines_before)
    else:
        yield from _quoted_rows(lines, path, lines_before, delimiter)


def no_header(columns: Iterable[str]) -> str:
    """Returns what to do where the file has no header, or an empty string.

    It has none where the names of its columns look like data.
    """
    names = list(columns)
    numbers = list(map(str, range(len(names))))  # how pandas names columns without names
    if names != numbers and any(map(_is_data, names)):
        return HEADER
    return ""


def _is_data(name: str) -> bool:
    if len(name) > LONG_NAME or len(name.split()) >= MANY_WORDS:
        return True
    try:
        float(name)
    except ValueError:
        return False
    return True


def _delimiter(lines: list[str], ending: str) -> str:
    """Returns the delimiter by which most rows have as many cells as the header."""
    usual = USUAL[ending][0]
    shares = {usual: _fitting_share(lines, usual)}
    for delimiter in DELIMITERS:
        if delimiter not in shares:
            shares[delimiter] = _fitting_share(lines, delimiter)
    return max(shares, key=shares.__getitem__)  # the first of equal ones: the usual one


def _fitting_share(lines: list[str], delimiter: str) -> float:
    """Returns the share of rows with as many cells as the header; 0 where it has only one cell."""
    plain = [line.replace("\r", " ") for line in lines]  # csv refuses a return within a cell
    widths = [len(cells) for cells in csv.reader(plain, delimiter=delimiter) if cells]
    if not widths or widths[0] < 2:
        return 0.0
    header_width, *others = widths
    if len(lines) == LOOKED_AT:
        others = others[:-1]  # the last row may continue behind these lines
    return (1 + others.count(header_width)) / (1 + len(others))


def _quoted_rows(
    lines: Iterator[str], path: Path, lines_before: int, delimiter: str
) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    start = lines_before + 1
    try:
        for cells in reader:
            if columns and cells:
                yield start, named(columns, cells, f"{path}:{start}", delimiter)
            elif cells:
                columns = header(cells, f"{path}:{start}")
            start = lines_before + reader.line_num + 1
    except csv.Error as error:
        fix = 'write a quote inside a quoted cell twice (""), and close every quote'
        raise Refusal(f"malformed CSV: {error}", f"{path}:{start}", fix) from None


def _tab_rows(lines: Iterator[str], path: Path, lines_before: int) -> Iterator[tuple[int, Row]]:
    """Yields pairs of line and row, of cells with a tab between them.

    A quote is a character like another, unless it encloses a cell. It does so where the cell holds
    tabs or line breaks: data sets like GLUE quote nothing, and pandas and Excel only what must be.
    """
    columns: list[str] = []
    number, coming = lines_before, _Lines(lines)
    for line in coming:
        number += 1
        start = number
        cells = line.rstrip("\r\n").split("\t")
        if '"' in line:
            width = len(columns) or len(cells)
            if _is_open(cells, width, coming.next):
                cells, more_lines = _joined(line, cells, width, coming)
                number += more_lines
            cells = list(map(_unquoted, cells))
        if not columns:
            columns = header(cells, f"{path}:{start}")
        elif line.strip():
            yield start, named(columns, cells, f"{path}:{start}", "\t")


class _Lines:
    """Iterates over lines, shows the next line, and takes lines back."""

    def __init__(self, lines: Iterator[str]):
        self._lines, self._waiting = lines, deque(islice(lines, 1))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            raise StopIteration
        line = self._waiting.popleft()
        if not self._waiting:
            self._waiting.extend(islice(self._lines, 1))
        return line

    @property
    def next(self) -> str | None:
        if self._waiting:
            return self._waiting[0]
        return None

    def give_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))


def _is_open(cells: list[str], width: int, following: str | None) -> bool:
    """Whether a quoted cell continues behind this line, or behind a tab in quotes."""
    opened = [cell for cell in cells if cell.startswith('"') and not QUOTED_CELL.fullmatch(cell)]
    if not opened:
        return False
    if len(cells) != width:
        return True
    return opened[-1] is cells[-1] and following is not None and following.count("\t") != width - 1


def _joined(line: str, cells: list[str], width: int, coming: _Lines) -> tuple[list[str], int]:
    """Returns the cells of a row by its quotes, and how many more lines it takes.

    Where that does not give a row of this width, returns the cells of the line alone.
    """
    taken: list[str] = []

    def following_lines() -> Iterator[str]:
        for following in islice(coming, JOINED):
            taken.append(following)
            yield following

    try:
        found = next(csv.reader(chain([line], following_lines()), delimiter="\t", strict=True))
    except csv.Error:
        found = []
    if len(found) == width:
        return found, len(taken)
    coming.give_back(taken)
    return cells, 0


def _unquoted(cell: str) -> str:
    if QUOTED_CELL.fullmatch(cell):
        return cell[1:-1].replace('""', '"')
    return cell


def header(cells: list[str], where: str) -> list[str]:
    """Returns the columns' names; one without a name is named by its place, as pandas does."""
    columns = [cell.strip() or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    known: set[str] = set()
    for name in columns:
        if name in known:
            fix = no_header(columns) or "give every column its own name"
            raise Refusal(f"column {name!r} appears twice in the header", where, fix)
        known.add(name)
    return columns


def named(columns: list[str], cells: list[str], where: str, delimiter: str) -> Row:
    """Returns the row: each cell under the name of its column.

    Empty cells beyond the header are left out. Columns without a name may be missing at the end.
    """
    if len(cells) != len(columns):
        cells = _fitted(columns, cells)
    if len(cells) != len(columns):
        shown = ", ".join(columns[:20])
        what = f"{len(cells)} cells, but the header names {len(columns)} columns ({shown})"
        fix = "put texts that hold the delimiter in double quotes"
        if delimiter == "\t":
            fix = "write one tab between two cells"
        raise Refusal(what, where, fix)
    return dict(zip(columns, cells, strict=True))


def _fitted(columns: list[str], cells: list[str]) -> list[str]:
    beyond, missing = cells[len(columns) :], columns[len(cells) :]
    if beyond and not any(map(str.strip, beyond)):
        return cells[: len(columns)]
    if missing and all(name.startswith("Unnamed: ") for name in missing):
        return cells + [""] * len(missing)
    return cells
