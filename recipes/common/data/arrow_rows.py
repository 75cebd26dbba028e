"""Binary tables -> rows: parquet and Arrow (also as `save_to_disk` leaves them), with the names of their classes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from recipes.common.data import unpacking
from recipes.common.runtime.errors import Refusal

Row = dict
BATCH = 64  # rows that are read at once: a value may stand in the file once and in all its rows


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Pairs of number and row of a parquet file."""
    number = 0
    with _refused(path, "parquet", lambda: number + 1):
        file = pyarrow.parquet.ParquetFile(_source(path), page_checksum_verification=True)
        left = _room(path)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > left:
            raise unpacking.bomb(path)
        for batch in file.iter_batches(BATCH):
            left -= batch.nbytes
            if left < 0:
                raise unpacking.bomb(path)
            for row in batch.to_pylist():
                number += 1
                yield number, row


def arrow_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Pairs of number and row of an Arrow file: a stream, as the datasets library writes it, or Feather."""
    number = 0
    with _refused(path, "Arrow", lambda: number + 1):
        left = _room(path)
        for batch in _slices(path):
            batch.validate(full=True)
            rows = batch.to_pylist()
            left -= max(batch.nbytes, sum(map(_characters, rows)))
            if left < 0:
                raise unpacking.bomb(path)
            for row in rows:
                number += 1
                yield number, row


def class_names(path: Path, kind: str) -> dict[str, list[str]]:
    """The names of classes by column, as the datasets library writes them into its files; `kind`: parquet or arrow."""
    with _refused(path, kind, lambda: 1):
        source = _source(path)
        schema = (
            pyarrow.parquet.read_schema(source) if kind == "parquet" else _reader(source).schema
        )
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _names_in(feature) for column, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if names}


def _names_in(feature: Any) -> list[str]:
    """The names of a feature that is a class, or a list of classes."""
    if isinstance(feature, list):
        return _names_in(feature[0])
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return [str(one) for one in feature.get("names") or ()]
    return (
        _names_in(feature["feature"]) if isinstance(feature, dict) and "feature" in feature else []
    )


def _source(path: Path) -> Any:
    """What pyarrow reads the file by."""
    if not unpacking.packing(path):
        return pyarrow.memory_map(str(path))
    with unpacking.open_bytes(path) as stream:
        return pyarrow.BufferReader(stream.read())


def _reader(source: Any) -> Any:
    """A reader of the file's batches; Feather begins with its own mark."""
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)


def _slices(path: Path) -> Iterator[pyarrow.RecordBatch]:
    reader = _reader(_source(path))
    numbers = range(getattr(reader, "num_record_batches", 0))
    batches = map(reader.get_batch, numbers) if hasattr(reader, "get_batch") else reader
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def _room(path: Path) -> int:
    """The bytes that a file of this size may hold."""
    return max(unpacking.FLOOR, unpacking.RATIO * path.stat().st_size)


def _characters(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


@contextmanager
def _refused(path: Path, kind: str, number: Any) -> Iterator[None]:
    """Turns what pyarrow raises for a damaged file into a refusal that names the row."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if getattr(error, "errno", None):  # of the disk, not of the file
            raise
        what = f"not a readable {kind} file: {error}"
        raise Refusal(what, f"{path}, row {number()}", "write or download the file again") from None
