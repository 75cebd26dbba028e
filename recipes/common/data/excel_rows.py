"""Excel's .xlsx -> rows: the first sheet, its cells as Excel would export them."""

import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from recipes.common.data import csv_rows, unpacking
from recipes.common.data.decoding import say_once
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import reason

EXPORT = "in Excel: File, Save as, CSV UTF-8"
BROKEN = (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, AttributeError)


def rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Pairs of Excel's row number and row; empty rows are none, and every value is a text, as in a CSV file."""
    columns: list[str] = []
    for number, values in enumerate(_cells(path), 1):
        cells = list(map(_as_text, values))
        if columns and any(cells):
            padded = cells + [""] * (len(columns) - len(cells))
            yield number, csv_rows.named(columns, padded, f"{path}, row {number}", "cell")
        elif any(cells):
            last = max(place for place, cell in enumerate(cells) if cell)
            columns = csv_rows.header(cells[: last + 1], f"{path}, row {number}")


def _cells(path: Path) -> Iterator[tuple]:
    try:
        import openpyxl
    except ImportError:
        fix = f"pip install openpyxl; or {EXPORT}"
        raise Refusal(
            "Excel files are read by the package openpyxl, which is not here", str(path), fix
        ) from None
    try:
        _check_size(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        others = [one.title for one in book.worksheets[1:]]
        if others:
            say_once(
                f"{path}: the sheet {sheet.title!r} is read, and not {', '.join(map(repr, others))}"
            )
        yield from sheet.iter_rows(values_only=True)
    except BROKEN as error:
        raise Refusal(f"not a readable Excel file: {reason(error)}", str(path), EXPORT) from None


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > max(unpacking.FLOOR, unpacking.RATIO * path.stat().st_size):
        raise unpacking.bomb(path)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)
