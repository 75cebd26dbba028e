"""Answers -> a file of JSON lines, which is whole or not there."""

from pathlib import Path

import pytest

from recipes.common.predict.answer_file import rows_to
from recipes.common.runtime.errors import Refusal


def test_rows_that_are_written_replace_a_file_when_all_are_there(tmp_path):
    path = tmp_path / "new/x.jsonl"
    with rows_to(path) as put:
        put({"text": "好"})
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == '{"text": "好"}\n'
    with pytest.raises(KeyboardInterrupt), rows_to(path) as put:
        put({"text": "half"})
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == '{"text": "好"}\n'
    assert (tmp_path / "new/x.jsonl.part").read_text(encoding="utf-8") == '{"text": "half"}\n'


def test_what_is_written_nowhere_needs_no_file(tmp_path):
    with rows_to(None) as put:
        put({"text": "a"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train.csv/x.jsonl", "train.csv/deeper/x.jsonl", "folder"])
def test_answers_cannot_be_written_where_no_file_can_be(name, in_tmp_path):
    (in_tmp_path / "train.csv").write_text("text\n")
    (in_tmp_path / "folder").mkdir()
    with (
        pytest.raises(Refusal, match="cannot write|is a folder") as caught,
        rows_to(Path(name)),
    ):
        pass
    assert "--output" in caught.value.where
    assert (in_tmp_path / "train.csv").read_text() == "text\n"


def test_rows_of_a_process_that_was_killed_are_written_over(tmp_path):
    (tmp_path / "x.jsonl.part").write_text('{"text": "of the killed one"}\n')
    with rows_to(tmp_path / "x.jsonl") as put:
        put({"text": "a"})
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert (tmp_path / "x.jsonl").read_text() == '{"text": "a"}\n'


@pytest.mark.parametrize("rows", [0, 1])
def test_two_processes_do_not_write_the_same_rows(rows, tmp_path):
    with rows_to(tmp_path / "x.jsonl") as put:
        for _ in range(rows):
            put({"text": "a"})
        with (
            pytest.raises(Refusal, match="another process writes"),
            rows_to(tmp_path / "x.jsonl"),
        ):
            pass
        put({"text": "b"})
    assert (tmp_path / "x.jsonl").read_text() == '{"text": "a"}\n' * rows + '{"text": "b"}\n'
