"""Rows on disk: in order, whatever is held in memory at a time."""

import pyarrow
import pytest

from recipes.common.data import arrow_buffer
from recipes.common.data.arrow_buffer import DiskTable


@pytest.mark.parametrize(("rows", "characters"), [(3, 10**6), (10**6, 5), (10**6, 10**6)])
def test_rows_come_back_in_order_however_many_are_held(rows, characters, monkeypatch):
    monkeypatch.setattr(arrow_buffer, "ROWS", rows)
    monkeypatch.setattr(arrow_buffer, "CHARACTERS", characters)
    written = DiskTable({"row": pyarrow.int64(), "text": pyarrow.string()})
    for row in range(10):
        written.add(row, "字" * row)
    assert written.rows == 10
    assert written.table.to_pydict() == {
        "row": list(range(10)),
        "text": ["字" * row for row in range(10)],
    }


def test_a_few_rows_are_held_and_the_others_are_on_disk(monkeypatch):
    monkeypatch.setattr(arrow_buffer, "ROWS", 100)
    before = pyarrow.total_allocated_bytes()
    written = DiskTable({"text": pyarrow.string()})
    for _ in range(1000):
        written.add("a" * 10_000)
    assert written.table.nbytes > 10_000_000
    assert pyarrow.total_allocated_bytes() - before < 2_000_000


def test_no_row_is_a_table_without_rows():
    assert DiskTable({"text": pyarrow.string()}).table.num_rows == 0
