"""The sample data sets are what samples/make.py writes and hold what samples/README.md promises."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT

SAMPLES = ROOT / "samples"
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def files_below(folder):
    """Return the names of the data files below a folder."""
    suffixes = {".csv", ".tsv", ".jsonl", ".txt", ".conll"}
    paths = [path for path in folder.glob("*/*") if path.suffix in suffixes]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


FILES = files_below(SAMPLES)
FOLDERS = sorted({name.split("/")[0] for name in FILES})


def rows(path):
    """Return the rows of a data file as dictionaries."""
    with path.open(encoding="utf-8", newline="") as stream:
        if path.suffix == ".txt":
            return [{"text": line.rstrip("\n")} for line in stream]
        if path.suffix == ".conll":
            sentences = stream.read().removesuffix("\n\n").split("\n\n")
            return [{"lines": sentence} for sentence in sentences]
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in stream]
        return list(csv.DictReader(stream, delimiter=DELIMITERS[path.suffix]))


def source_texts(path):
    """Return what a model reads of every row: the first column, or of a pair its English side."""
    first = [next(iter(row.values())) for row in rows(path)]
    return [value["en"] if isinstance(value, dict) else value for value in first]


def shares(folder, split):
    """Return the share of every label in a split."""
    (path,) = (SAMPLES / folder).glob(f"{split}.*")
    labels = Counter(row["label"] for row in rows(path))
    return {label: count / labels.total() for label, count in labels.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder that make.py has just filled."""
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, SAMPLES / "make.py", "--output_dir", folder], check=True)
    return folder


def test_make_writes_exactly_the_files_that_are_there(written):
    assert FILES
    assert files_below(written) == FILES


@pytest.mark.parametrize("name", FILES)
def test_make_reproduces_the_file_byte_for_byte(written, name):
    assert (written / name).read_bytes() == (SAMPLES / name).read_bytes()


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_text_appears_twice_in_a_data_set(folder):
    texts = [
        text
        for name in FILES
        if name.startswith(folder + "/")
        for text in source_texts(SAMPLES / name)
    ]
    assert texts
    assert len(set(texts)) == len(texts)


def test_no_held_out_sentence_appears_in_the_raw_text():
    raw_files = [name for name in FILES if name.startswith(("text/", "corpus/"))]
    raw = " ".join(text for name in raw_files for text in source_texts(SAMPLES / name))
    sentences = {text.strip() for text in re.split("★+", raw)}
    assert len(sentences) > 3000
    held_out = [
        text
        for name in FILES
        if name.startswith("sentiment") and "/train." not in name
        for text in source_texts(SAMPLES / name)
    ]
    assert held_out
    assert not sentences.intersection(held_out)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_labels_are_shared_out_as_documented(split):
    balanced = shares("sentiment", split)
    assert set(balanced) == {"negative", "positive"}
    assert balanced["negative"] == pytest.approx(0.5, abs=0.02)
    three = shares("sentiment_three_classes", split)
    assert set(three) == {"negative", "neutral", "positive"}
    assert list(three.values()) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert 0.08 <= shares("sentiment_imbalanced", split)["negative"] <= 0.12


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_word_alone_does_not_tell_what_it_names(split):
    """Florence is a person, a town and a part of a house's name."""
    labels = {}
    for row in rows(SAMPLES / f"entities/{split}.conll"):
        for line in row["lines"].split("\n"):
            word, label = line.split("\t")
            labels.setdefault(word, set()).add(label)
    assert {"B-PER", "B-LOC", "B-ORG", "I-PER", "I-LOC", "I-ORG", "O"} == set().union(
        *labels.values()
    )
    named = [found for found in labels.values() if found != {"O"}]
    assert sum(len(found) > 1 for found in named) > len(named) / 3


def test_all_files_together_stay_small():
    assert sum((SAMPLES / name).stat().st_size for name in FILES) < 3_200_000
