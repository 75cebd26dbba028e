"""Reads rows from JSON, as people and pandas write it.

The file holds an object per line, a list, a list under a key, or columns.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from recipes.common.data.decoding import say_once
from recipes.common.runtime.errors import Refusal

Row = dict
# The keys under which a list is a file's rows.
ROW_KEYS = ("data", "rows", "examples", "instances", "items", "records", "results", "documents")


def rows_of_lines(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Row]]:
    """Yields pairs of line and row of a file that has an object per line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            if number == 1 and line.lstrip().startswith("["):
                what = "this is one JSON list, not an object per line"
                raise Refusal(what, f"{path}:1", "rename the file: give it the ending .json")
            yield number, _object(_parse(line, path, number), f"{path}:{number}")


def rows(
    lines: Iterator[str], path: Path, split: tuple[str, ...] = ()
) -> Iterator[tuple[int, Row]]:
    """Yields pairs of number and row of one document, or of an object per line.

    `split` are keys of a document whose list may be its rows, beside the usual ones.
    """
    text = "".join(lines)
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{") and first.rstrip().endswith("}") and text.strip() != first.strip():
        yield from rows_of_lines(io.StringIO(text, newline="\n"), path)
        return
    for number, row in enumerate(_rows_in(_parse(text, path), path, split), 1):
        yield number, _object(row, f"{path}, row {number}")


def _rows_in(document: object, path: Path, split: tuple[str, ...]) -> Sequence[object]:
    """Returns the rows of a document: a list, a list under a key, columns, or one object."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return [document]
    lists = [key for key, value in document.items() if isinstance(value, list)]
    if {"columns", "data"} <= {*lists}:  # pandas' orient="split"
        return list(_by_name(document["columns"], document["data"]))
    wanted = [key for key in (*split, *ROW_KEYS) if key in lists]
    tables = [key for key in lists if key in wanted or _is_table(document[key])]
    holds_tables_alone = bool(tables) and len(tables) == len(document)
    if wanted or holds_tables_alone:
        return _chosen(document, wanted, tables, path)
    return _rows_of_columns(document) or [document]


def _by_name(names: list[str], rows: list[object]) -> Iterator[object]:
    """Yields the rows; a list with one value for each name becomes an object."""
    for row in rows:
        if isinstance(row, list) and len(row) == len(names):
            yield dict(zip(names, row, strict=True))
        else:
            yield row


def _is_table(rows: list[object]) -> bool:
    return bool(rows) and isinstance(rows[0], dict)


def _chosen(document: dict, wanted: list[str], tables: list[str], path: Path) -> list[object]:
    """Returns the wanted one of the document's lists; refuses a choice between several."""
    if not wanted and len(tables) > 1:
        what = f"the file holds several lists: {', '.join(tables[:10])}"
        fix = "write the one you mean into its own file, or name them train, validation and test"
        raise Refusal(what, str(path), fix)
    key = (wanted or tables)[0]
    others = [table for table in tables if table != key]
    if others:
        say_once(f"{path}: only the rows of {key!r} are read, not those of {', '.join(others)}")
    return document[key]


def _rows_of_columns(document: dict) -> list[Row]:
    """Returns the rows of a document that holds columns, or that holds rows by their numbers.

    Columns are lists, or what pandas writes: objects that hold the values by the rows' numbers.
    Returns no row for any other document.
    """
    values = list(document.values())
    if _are_columns(values):
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if not _are_objects_alike(values):
        return []
    if all(map(str.isdecimal, values[0])):  # df.to_json()
        return _rows_by_number(document)
    if all(map(str.isdecimal, document)):  # orient="index"
        return values
    return []


def _are_columns(values: list[object]) -> bool:
    """Whether all values are lists of one length."""
    lists = [value for value in values if isinstance(value, list)]
    return len(lists) == len(values) and all(len(value) == len(lists[0]) for value in lists)


def _are_objects_alike(values: list[object]) -> bool:
    """Whether all values are objects with the same keys."""
    objects = [value for value in values if isinstance(value, dict)]
    return len(objects) == len(values) and all(
        value.keys() == objects[0].keys() for value in objects
    )


def _rows_by_number(columns: dict[str, dict]) -> list[Row]:
    rows: dict[str, Row] = {}
    for name, values in columns.items():
        for number, value in values.items():
            rows.setdefault(number, {})[name] = value
    return list(rows.values())


def _parse(text: str, path: Path, number: int = 1) -> object:
    try:
        return JSON.decode(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{number + error.lineno - 1}:{error.colno}"
        fix = "write one complete JSON object per line"
        raise Refusal(f"malformed JSON: {error.msg}", where, fix) from None
    except ValueError as error:  # a name that appears twice, an integer of thousands of digits
        what = f"JSON that readers understand in different ways: {error}"
        raise Refusal(what, f"{path}:{number}", "correct this row") from None


def _without_repetition(pairs: list[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        known: set[str] = set()
        for key, _ in pairs:
            if key in known:
                raise ValueError(f"{key!r} appears twice in one object")
            known.add(key)
    return row


JSON = json.JSONDecoder(object_pairs_hook=_without_repetition)


def _object(row: object, where: str) -> Row:
    if not isinstance(row, dict):
        what = f"a row must be a JSON object, not {type(row).__name__}"
        raise Refusal(what, where, 'write rows as {"name of a column": "its value", ...}')
    return row
