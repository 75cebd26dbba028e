"""The sample data sets are what their generator writes, and what their README says."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
DATA_SETS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir() and list(path.glob("train.*")))


def files_below(folder):
    """Return the data files below the folder, by path relative to it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.*") if path.suffix != ".pyc"}


def read_rows(path):
    """Return the rows of a data file: dictionaries, or lines of plain text."""
    text = path.read_bytes().decode("utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    if path.suffix == ".txt":
        return text.splitlines()
    return list(csv.DictReader(text.splitlines(), delimiter={".csv": ",", ".tsv": "\t"}[path.suffix]))


def labels_of(name):
    """Return the counts of the labels of each split."""
    paths = (SAMPLES / name).iterdir()
    return {path.stem: Counter(row["label"] for row in read_rows(path)) for path in paths}


def test_generator_reproduces_the_files(tmp_path):
    command = [sys.executable, str(SAMPLES / "make.py"), "--output_dir", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    written, committed = files_below(tmp_path), files_below(SAMPLES)
    assert len(committed) >= 25
    assert sorted(written) == sorted(committed)
    for name, path in committed.items():
        assert written[name].read_bytes() == path.read_bytes(), name


@pytest.mark.parametrize("name", DATA_SETS)
def test_no_row_occurs_twice(name):
    rows = [row for path in sorted((SAMPLES / name).iterdir()) for row in read_rows(path)]
    inputs = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows]
    assert len(inputs) > 100
    assert len(set(inputs)) == len(inputs)


@pytest.mark.parametrize("name", [name for name in DATA_SETS if name.startswith("sentiment")])
def test_no_text_has_two_labels(name):
    texts = [row["text"] for path in (SAMPLES / name).iterdir() for row in read_rows(path)]
    assert len(set(texts)) == len(texts)


def test_corpus_and_text_hold_no_evaluation_sentence():
    evaluation = [
        row["text"] for split in ("validation", "test") for row in read_rows(SAMPLES / "sentiment" / f"{split}.csv")
    ]
    raw = "\n".join(
        path.read_text(encoding="utf-8") for name in ("corpus", "text") for path in (SAMPLES / name).iterdir()
    )
    sentences = set(raw.replace("\\n", " ").replace("。", "。\n").replace(". ", ".\n").splitlines())
    assert not sentences & set(evaluation)


def test_sentiment_labels_are_balanced():
    for counts in labels_of("sentiment").values():
        assert sorted(counts) == ["negative", "positive"]
        assert 0.45 <= counts["negative"] / counts.total() <= 0.55


def test_three_classes_are_balanced():
    for counts in labels_of("sentiment_three_classes").values():
        assert sorted(counts) == ["negative", "neutral", "positive"]
        assert all(0.25 <= count / counts.total() <= 0.42 for count in counts.values())


def test_imbalanced_labels_are_imbalanced():
    for counts in labels_of("sentiment_imbalanced").values():
        assert 0.08 <= counts["negative"] / counts.total() <= 0.12


def test_both_languages_are_present():
    texts = [row["text"] for row in read_rows(SAMPLES / "sentiment" / "train.csv")]
    chinese = sum(any("\u4e00" <= character <= "\u9fff" for character in text) for text in texts)
    assert 0.40 <= chinese / len(texts) <= 0.50


def test_samples_stay_small():
    assert sum(path.stat().st_size for path in files_below(SAMPLES).values()) < 3_000_000
