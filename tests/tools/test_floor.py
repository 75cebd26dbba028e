"""The floor that a text classifier should beat, and the files that have none."""

import sys

import pytest

from recipes.common.runtime.errors import Refusal
from tools import floor


def test_words_that_tell_the_label_tell_it(reviews):
    assert floor.floor(reviews / "train.csv", reviews / "test.csv") == 1.0


BAD = {
    "one label": ("text,label\na,x\nb,x\n", "all 2 rows have the label 'x'"),
    "no words": ("text,label\n!!,x\n??,y\n", "no words to count"),
    "no rows": ("text,label\n", "no rows"),
    "a label that is missing": ("text,label\na,\nb,x\n", "the label is ''"),
    "other columns": ("review,stars\na,1\n", "no columns text and label"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_without_a_floor_is_refused(case, in_tmp_path):
    content, words = BAD[case]
    (in_tmp_path / "train.csv").write_text(content)
    with pytest.raises(Refusal, match=words):
        floor.floor(in_tmp_path / "train.csv", in_tmp_path / "train.csv")


@pytest.mark.parametrize(
    "row",
    [
        '{"text": null, "label": "x"}',
        '{"text": ["a"], "label": "x"}',
        '{"text": "a", "label": null}',
    ],
)
def test_a_row_without_a_text_or_a_label_is_named(row, in_tmp_path):
    (in_tmp_path / "train.jsonl").write_text('{"text": "a", "label": "y"}\n' + row + "\n")
    with pytest.raises(Refusal) as caught:
        floor.floor(in_tmp_path / "train.jsonl", in_tmp_path / "train.jsonl")
    assert "train.jsonl:2" in caught.value.where


def test_two_files_are_needed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["floor.py", "one.csv"])
    with pytest.raises(Refusal, match="two files"):
        floor.main()
