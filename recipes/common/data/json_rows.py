"""JSON -> rows: an object a line, a list, a list under a key, or columns, as people and pandas write them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.common.data.decoding import say_once
from recipes.common.runtime.errors import Refusal

Row = dict
# The keys under which a list is a file's rows.
ROW_KEYS = ("data", "rows", "examples", "instances", "items", "records", "results", "documents")


def rows_of_lines(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Row]]:
    """Pairs of line and row of a file that has an object a line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            if number == 1 and line.lstrip().startswith("["):
                what = "this is one JSON list, not an object a line"
                raise Refusal(what, f"{path}:1", "rename the file: its ending is .json")
            yield number, _object(_parse(line, path, number), f"{path}:{number}")


def rows(
    lines: Iterator[str], path: Path, split: tuple[str, ...] = ()
) -> Iterator[tuple[int, Row]]:
    """Pairs of number and row of one document, or of an object a line; the list that is read may be one of `split`."""
    text = "".join(lines)
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{") and first.rstrip().endswith("}") and text.strip() != first.strip():
        yield from rows_of_lines(io.StringIO(text, newline="\n"), path)
        return
    for number, row in enumerate(_rows_in(_parse(text, path), path, split), 1):
        yield number, _object(row, f"{path}, row {number}")


def _rows_in(document: Any, path: Path, split: tuple[str, ...]) -> list[Any]:
    """The rows of a JSON document: a list, a list under a key, columns, or one object that is a row."""
    if not isinstance(document, dict):
        return document if isinstance(document, list) else [document]
    names, rows = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(rows, list):  # pandas' orient="split"
        return [_by_name(names, row) for row in rows]
    wanted = [key for key in (*split, *ROW_KEYS) if isinstance(document.get(key), list)]
    tables = [key for key, value in document.items() if key in wanted or _is_table(value)]
    if wanted or (tables and len(tables) == len(document)):
        return _chosen(document, wanted, tables, path)
    return _columns_in(document) or [document]


def _by_name(names: list[str], row: Any) -> Any:
    fits = isinstance(row, list) and len(row) == len(names)
    return dict(zip(names, row, strict=True)) if fits else row


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _chosen(document: dict, wanted: list[str], tables: list[str], path: Path) -> list[Any]:
    if not wanted and len(tables) > 1:
        fix = "write the one that is meant into a file of its own, or call them train, validation and test"
        raise Refusal(f"the file holds several lists: {', '.join(tables[:10])}", str(path), fix)
    key = (wanted or tables)[0]
    if len(tables) > 1:
        say_once(
            f"{path}: the rows of {key!r} are read, and not those of {', '.join(set(tables) - {key})}"
        )
    return document[key]


def _columns_in(document: dict) -> list[Row]:
    """The rows of a document that holds columns: as lists, or as pandas writes them, by the rows' names."""
    values = list(document.values())
    if not values:
        return []
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if not all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        return []
    if all(map(str.isdecimal, values[0])):  # df.to_json()
        return [{column: document[column][row] for column in document} for row in values[0]]
    return values if all(map(str.isdecimal, document)) else []  # orient="index"


def _parse(text: str, path: Path, number: int = 1) -> Any:
    try:
        return JSON.decode(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{number + error.lineno - 1}:{error.colno}"
        raise Refusal(
            f"malformed JSON: {error.msg}", where, "write one complete JSON object a line"
        ) from None
    except ValueError as error:  # a name that stands twice, an integer of thousands of digits
        raise Refusal(
            f"JSON with two meanings or none: {error}", f"{path}:{number}", "write the row again"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        known: set[str] = set()
        for key, _ in pairs:
            if key in known:
                raise ValueError(f"{key!r} stands twice in one object")
            known.add(key)
    return row


JSON = json.JSONDecoder(object_pairs_hook=_once)


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        what = f"a row must be a JSON object, not {type(row).__name__}"
        raise Refusal(what, where, 'write rows as {"text": "...", "label": "..."}')
    return row
