"""Keeps rows in a table on disk, which is read by memory map.

Memory holds at most `ROWS` rows at a time, and fewer where texts are long (`CHARACTERS`).
"""

import mmap
from collections.abc import Mapping
from functools import cached_property
from tempfile import TemporaryFile

import pyarrow

ROWS, CHARACTERS = 10_000, 2**24  # at most these are held in memory before they are written

Value = int | str | list[str]


class DiskTable:
    """Grows a table row by row, in a file without a name that ends with the process."""

    def __init__(self, columns: Mapping[str, pyarrow.DataType]):
        self.rows = 0
        self._schema = pyarrow.schema(columns)
        self._values: dict[str, list[Value]] = {name: [] for name in columns}
        self._characters = 0
        self._file = TemporaryFile()  # noqa: SIM115 (it is read until the process ends)
        self._writer: pyarrow.RecordBatchStreamWriter | None = None

    def add(self, *values: Value) -> None:
        """Adds one row: its values in the order of the columns."""
        for column, value in zip(self._values.values(), values, strict=True):
            column.append(value)
            self._characters += _characters(value)
        self.rows += 1
        if self.rows % ROWS == 0 or self._characters >= CHARACTERS:
            self._write()

    def _write(self) -> pyarrow.RecordBatchStreamWriter:
        """Writes the rows that are held in memory; returns the writer."""
        table = pyarrow.table(self._values, self._schema)
        if self._writer is None:
            self._writer = pyarrow.ipc.new_stream(self._file, self._schema)
        if len(table):
            self._writer.write_table(table)
        self._characters = 0
        for column in self._values.values():
            column.clear()
        return self._writer

    @cached_property
    def table(self) -> pyarrow.Table:
        """Returns all rows, by memory map; after this, no row can be added."""
        self._write().close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)  # it outlives the file
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(mapped)).read_all()


def _characters(value: Value) -> int:
    if isinstance(value, int):
        return 0
    return len(value) if isinstance(value, str) else sum(map(len, value))
