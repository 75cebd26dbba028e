"""Rows that are read -> a table on disk, which is read by memory map: memory holds a few thousand of them."""

import mmap
from collections.abc import Sequence
from functools import cached_property
from tempfile import TemporaryFile
from typing import Any

import pyarrow

ROWS, CHARACTERS = 10_000, 2**24  # what is held at most before it is written


class Spool:
    """A table that grows row by row, in a file without a name, which goes with the process."""

    def __init__(self, columns: Sequence[str]):
        self.rows = 0
        self._values: dict[str, list[Any]] = {name: [] for name in columns}
        self._characters = 0
        self._file = TemporaryFile()  # noqa: SIM115 (it is read until the process ends)
        self._writer: pyarrow.RecordBatchStreamWriter | None = None

    def add(self, *values: Any) -> None:
        """One row, its values in the order of the columns; a column holds numbers or texts."""
        for column, value in zip(self._values.values(), values, strict=True):
            column.append(value)
            self._characters += len(value) if isinstance(value, str) else 0
        self.rows += 1
        if self.rows % ROWS == 0 or self._characters >= CHARACTERS:
            self._write()

    def _write(self) -> None:
        table = pyarrow.table(self._values)
        if self._writer is None:
            self._writer = pyarrow.ipc.new_stream(self._file, table.schema)
        if len(table):
            self._writer.write_table(table)
        self._characters = 0
        for column in self._values.values():
            column.clear()

    @cached_property
    def table(self) -> pyarrow.Table:
        """All rows, by memory map; nothing can be added any more."""
        self._write()
        self._writer.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)  # it outlives the file
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(mapped)).read_all()
