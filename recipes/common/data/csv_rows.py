"""Lines of a table -> rows: csv and tsv as spreadsheets, pandas, databases and Kaggle write them."""

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
USUAL = {"csv": (",", ";"), "tsv": ("\t",)}  # what nobody needs to be told
LOOKED_AT = 100  # lines by which the delimiter is found
SEPARATOR = re.compile(
    r'"?sep=([,;|:^~#\t ])"?', re.IGNORECASE
)  # Excel's first line, which is no row
QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
JOINED = 1000  # lines of one cell in a tsv file
LONG_NAME, WORDS = 60, 4  # characters, words: few columns have so long a name
HEADER = "if the first line is data, write the columns' names above it, for example text,label"


def rows(lines: Iterator[str], path: Path, ending: str) -> Iterator[tuple[int, Row]]:
    """Pairs of line and row of a csv or tsv file; refuses rows that do not fit the header."""
    csv.field_size_limit(decoding.LONGEST)
    first = next(lines, "")
    told = SEPARATOR.fullmatch(first.rstrip("\r\n"))
    before = 1 if told else 0
    start = list(islice(lines if told else chain([first], lines), LOOKED_AT))
    delimiter = told[1] if told else _delimiter(start, ending)
    if not told and start and delimiter not in USUAL[ending]:
        decoding.say_once(f"{path}: {DELIMITERS[delimiter]} stand between its cells")
    read = _tab_rows if delimiter == "\t" else _quoted_rows
    yield from read(chain(start, lines), path, before, delimiter)


def no_header(columns: Iterable[str]) -> str:
    """What to do where the names of the columns look like data: the file has no header. Otherwise an empty string."""
    names = list(columns)
    numbered = [
        str(position) for position in range(len(names))
    ]  # as pandas names columns without names
    return HEADER if names != numbered and any(map(_is_data, names)) else ""


def _is_data(name: str) -> bool:
    if len(name) > LONG_NAME or len(name.split()) >= WORDS:
        return True
    try:
        float(name)
    except ValueError:
        return False
    return True


def _delimiter(lines: list[str], ending: str) -> str:
    """What stands between the cells: the delimiter of the header by which most rows have as many cells as it."""
    usual = USUAL[ending][0]
    fits = {one: _fit(lines, one) for one in dict.fromkeys((usual, *DELIMITERS))}
    best = max(fits, key=fits.get)  # of equals the first: the usual one
    return best if fits[best] else usual


def _fit(lines: list[str], delimiter: str) -> float:
    """The share of the rows that have as many cells as the header; 0 where that has one."""
    plain = (line.replace("\r", " ") for line in lines)  # which csv raises for within a cell
    number, *others = [len(cells) for cells in csv.reader(plain, delimiter=delimiter) if cells] or [
        0
    ]
    others = others[:-1] if len(lines) == LOOKED_AT else others  # the last row may go on
    fitting = sum(other == number for other in others)
    return (1 + fitting) / (1 + len(others)) if number > 1 else 0


def _quoted_rows(
    lines: Iterator[str], path: Path, before: int, delimiter: str
) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    start = before + 1
    try:
        for cells in reader:
            if columns and cells:
                yield start, named(columns, cells, f"{path}:{start}", delimiter)
            elif cells:
                columns = header(cells, f"{path}:{start}")
            start = before + reader.line_num + 1
    except csv.Error as error:
        fix = 'write a quote inside a quoted cell twice (""), and close every quote'
        raise Refusal(f"malformed CSV: {error}", f"{path}:{start}", fix) from None


def _tab_rows(
    lines: Iterator[str], path: Path, before: int, delimiter: str
) -> Iterator[tuple[int, Row]]:
    """A quote is a character like another, unless it encloses a cell, as it does where that holds tabs or line breaks:
    data sets like GLUE quote nothing, and pandas and Excel only what must be."""
    columns: list[str] = []
    number, coming = before, _Lines(lines)
    for line in coming:
        number += 1
        place, cells = number, line.rstrip("\r\n").split("\t")
        if '"' in line and _is_open(cells, len(columns) or len(cells), coming.next):
            cells, more = _joined(line, cells, len(columns) or len(cells), coming)
            number += more
        cells = [_unquoted(cell) for cell in cells]
        if not columns:
            columns = header(cells, f"{path}:{place}")
        elif line.strip():
            yield place, named(columns, cells, f"{path}:{place}", delimiter)


class _Lines:
    """Lines of which the next one can be seen, and that can be given back."""

    def __init__(self, lines: Iterator[str]):
        self._lines, self._waiting = lines, deque(islice(lines, 1))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            raise StopIteration
        line = self._waiting.popleft()
        self._waiting.extend(islice(self._lines, 0 if self._waiting else 1))
        return line

    @property
    def next(self) -> str | None:
        return self._waiting[0] if self._waiting else None

    def give_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))


def _is_open(cells: list[str], number: int, following: str | None) -> bool:
    """Whether a cell of this line goes on behind it, or behind a tab in quotes."""
    opened = [cell for cell in cells if cell.startswith('"') and not QUOTED_CELL.fullmatch(cell)]
    if not opened:
        return False
    if len(cells) != number:
        return True
    return opened[-1] is cells[-1] and following is not None and following.count("\t") != number - 1


def _joined(line: str, cells: list[str], number: int, coming: _Lines) -> tuple[list[str], int]:
    """The cells of a row by its quotes, and how many more lines they take; those of the line alone where that fails."""
    taken: list[str] = []

    def more() -> Iterator[str]:
        for one in islice(coming, JOINED):
            taken.append(one)
            yield one

    try:
        found = next(csv.reader(chain([line], more()), delimiter="\t", strict=True))
    except csv.Error:
        found = []
    if len(found) == number:
        return found, len(taken)
    coming.give_back(taken)
    return cells, 0


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if QUOTED_CELL.fullmatch(cell) else cell


def header(cells: list[str], where: str) -> list[str]:
    """The columns' names; one without is named by its place, as pandas does."""
    names = [cell.strip() for cell in cells]
    columns = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    known: set[str] = set()
    for name in columns:
        if name in known:
            fix = no_header(columns) or "give every column its own name"
            raise Refusal(f"column {name!r} stands twice in the header", where, fix)
        known.add(name)
    return columns


def named(columns: list[str], cells: list[str], where: str, delimiter: str) -> Row:
    """The row; empty cells beyond the header are none, and columns without a name may be missing at the end."""
    if len(cells) != len(columns):
        cells = _fitted(columns, cells)
    if len(cells) != len(columns):
        tabs = delimiter == "\t"
        fix = (
            "one tab between two cells"
            if tabs
            else "put texts that hold the delimiter in double quotes"
        )
        what = f"{len(cells)} cells, but the header names {len(columns)} columns ({', '.join(columns[:20])})"
        raise Refusal(what, where, fix)
    return dict(zip(columns, cells, strict=True))


def _fitted(columns: list[str], cells: list[str]) -> list[str]:
    if len(cells) > len(columns) and not any(map(str.strip, cells[len(columns) :])):
        return cells[: len(columns)]
    missing = columns[len(cells) :]
    unnamed = all(name.startswith("Unnamed: ") for name in missing)
    return [*cells, *("" for _ in missing)] if missing and unnamed else cells
