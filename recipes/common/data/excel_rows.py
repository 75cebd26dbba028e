"""Reads rows from Excel's .xlsx: the first sheet, its cells as Excel would export them."""

import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from recipes.common.data import csv_rows, unpacking
from recipes.common.data.decoding import say_once
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import reason

EXPORT = "save it as CSV UTF-8 in Excel: File, Save as"
BROKEN = (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, AttributeError)


def rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Yields pairs of Excel's row number and row; every value is a text, as in a CSV file.

    Empty rows are left out.
    """
    columns: list[str] = []
    for number, values in enumerate(_cells(path), 1):
        cells = list(map(_as_text, values))
        if columns and any(cells):
            padded = cells + [""] * (len(columns) - len(cells))
            yield number, csv_rows.named(columns, padded, f"{path}, row {number}", "cell")
        elif any(cells):
            while not cells[-1]:
                cells.pop()
            columns = csv_rows.header(cells, f"{path}, row {number}")


def _cells(path: Path) -> Iterator[tuple]:
    try:
        import openpyxl
    except ImportError:
        what = "the package openpyxl, which reads Excel files, is not installed"
        raise Refusal(what, str(path), f"pip install openpyxl; or {EXPORT}") from None
    try:
        _check_size(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet, *others = book.worksheets
        sheet.reset_dimensions()  # some programs write wrong ones
        if others:
            titles = ", ".join(repr(other.title) for other in others)
            say_once(f"{path}: only the sheet {sheet.title!r} is read, not {titles}")
        yield from sheet.iter_rows(values_only=True)
    except BROKEN as error:
        raise Refusal(f"not a readable Excel file: {reason(error)}", str(path), EXPORT) from None


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(unpacking.FLOOR, unpacking.RATIO * path.stat().st_size):
        raise unpacking.bomb(path)


def _as_text(value: object) -> str:
    """Returns a cell's value as Excel would export it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return str(value)
