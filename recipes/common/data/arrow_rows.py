"""Reads rows and class names from parquet and Arrow, also as `save_to_disk` leaves them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pyarrow
import pyarrow.parquet

from recipes.common.data import unpacking
from recipes.common.runtime.errors import Refusal

Row = dict
Reader: TypeAlias = pyarrow.ipc.RecordBatchFileReader | pyarrow.ipc.RecordBatchStreamReader
BATCH = 64  # rows that are read at once: the file may hold one long value for all of them
# What pyarrow raises for a damaged file, and what the disk raises.
UNREADABLE = (pyarrow.ArrowException, OSError, ValueError, OverflowError)


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields pairs of number and row of a parquet file."""
    return _numbered(_parquet_batches(path), path, "parquet")


def arrow_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields pairs of number and row of an Arrow file.

    The file is a stream, as the datasets library writes it, or Feather.
    """
    return _numbered(_arrow_batches(path), path, "Arrow")


def _numbered(batches: Iterator[list[Row]], path: Path, kind: str) -> Iterator[tuple[int, Row]]:
    """Yields the rows with their numbers; refuses a damaged file and names the unreadable row."""
    number = 0
    try:
        for rows in batches:
            for row in rows:
                number += 1
                yield number, row
    except UNREADABLE as error:
        raise _refusal(error, path, kind, number + 1) from None


def _refusal(error: Exception, path: Path, kind: str, number: int) -> Exception:
    """Returns the refusal of a damaged file, by its row; returns an error of the disk as it is."""
    if getattr(error, "errno", None):
        return error
    what = f"not a readable {kind} file: {error}"
    return Refusal(what, f"{path}, row {number}", "write or download the file again")


def _parquet_batches(path: Path) -> Iterator[list[Row]]:
    file = pyarrow.parquet.ParquetFile(_source(path), page_checksum_verification=True)
    left = _most_bytes(path)
    if _unpacked_size(file.metadata) > left:
        raise unpacking.bomb(path)
    for batch in file.iter_batches(BATCH):
        left -= batch.nbytes
        if left < 0:
            raise unpacking.bomb(path)
        yield batch.to_pylist()


def _unpacked_size(metadata: pyarrow.parquet.FileMetaData) -> int:
    """Returns the bytes that the file's own metadata promises."""
    size = 0
    for number in range(metadata.num_row_groups):
        size += metadata.row_group(number).total_byte_size
    return size


def _arrow_batches(path: Path) -> Iterator[list[Row]]:
    left = _most_bytes(path)
    for batch in _slices(path):
        batch.validate(full=True)
        rows = batch.to_pylist()
        left -= max(batch.nbytes, _characters(rows))
        if left < 0:
            raise unpacking.bomb(path)
        yield rows


def class_names(path: Path, kind: str) -> dict[str, list[str]]:
    """Returns the class names of each column, as the datasets library writes them into its files.

    `kind` is parquet or arrow.
    """
    try:
        schema = _schema(path, kind)
    except UNREADABLE as error:
        raise _refusal(error, path, kind, 1) from None
    found = {}
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        for column, feature in features.items():
            found[column] = _names_in(feature)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if names}


def _schema(path: Path, kind: str) -> pyarrow.Schema:
    source = _source(path)
    if kind == "parquet":
        return pyarrow.parquet.read_schema(source)
    return _reader(source).schema


def _names_in(feature: object) -> list[str]:
    """Returns the names of a feature that is a class, or a list of classes."""
    if isinstance(feature, list):
        return _names_in(feature[0])
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return list(map(str, feature.get("names") or ()))
    return _names_in(feature.get("feature"))


def _source(path: Path) -> pyarrow.NativeFile:
    """Opens the file for pyarrow."""
    if not unpacking.packing(path):
        return pyarrow.memory_map(str(path))
    with unpacking.open_bytes(path) as stream:
        return pyarrow.BufferReader(stream.read())


def _reader(source: pyarrow.NativeFile) -> Reader:
    """Returns a reader of the file's batches; a Feather file begins with its own mark."""
    is_feather = source.read(6) == b"ARROW1"
    source.seek(0)
    if is_feather:
        return pyarrow.ipc.open_file(source)
    return pyarrow.ipc.open_stream(source)


def _slices(path: Path) -> Iterator[pyarrow.RecordBatch]:
    for batch in _batches(_reader(_source(path))):
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def _batches(reader: Reader) -> Iterator[pyarrow.RecordBatch]:
    if isinstance(reader, pyarrow.ipc.RecordBatchStreamReader):
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _most_bytes(path: Path) -> int:
    """Returns how many bytes a file of this size may hold."""
    return max(unpacking.FLOOR, unpacking.RATIO * path.stat().st_size)


def _characters(rows: list[Row]) -> int:
    count = 0
    for row in rows:
        for value in row.values():
            if isinstance(value, str):
                count += len(value)
    return count
