"""Text -> tokens: what was cut off is counted exactly, and labels and row ids stay with their rows."""

import itertools
import pickle
import subprocess
import sys

import datasets
import pyarrow
import pytest
from conftest import ROOT
from transformers import PreTrainedTokenizerFast

from recipes.common.config.flags import Arguments
from recipes.common.data.splits import Splits
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.tokens import encoding

WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Each of the ten words is one token; [CLS] and [SEP] come on top."""
    return train_tokenizer([WORDS] * 50, "wordpiece", 300, "bert")


def words(number):
    return " ".join(WORDS.split()[:number])


def split(*lengths, first=0):
    """Rows whose texts have so many words; row ids from `first` on, labels 0, 1, 0, 1, …"""
    rows = {"row_id": [], "text": [], "labels": []}
    for row, length in enumerate(lengths):
        rows["row_id"].append(first + row)
        rows["text"].append(words(length))
        rows["labels"].append(row % 2)
    return datasets.Dataset.from_dict(rows)


def splits(train=None, validation=None, test=None, texts=("text",)):
    return Splits(train, validation, test, texts, False, "label", None, {}, {})


def encode(tokenizer, given, max_length=6, padding=False, **flags):
    def encode_rows(rows):
        return tokenizer(rows["text"], truncation=True, max_length=max_length, padding=padding)

    return encoding.encode(given, encode_rows, Arguments(**flags))


@pytest.mark.parametrize(
    ("lengths", "share"),
    [
        ([1, 2, 3], 0.0),
        ([4, 4, 4], 0.0),  # with [CLS] and [SEP] exactly 6 tokens
        ([4, 5], 0.5),
        ([1, 4, 5, 10], 0.5),
        ([5, 6, 7, 1], 0.75),
        ([9, 9], 1.0),
    ],
)
def test_the_truncated_share_counts_the_rows_that_lost_something(tokenizer, lengths, share):
    counts = encode(tokenizer, splits(split(*lengths))).counts["train"]
    assert counts["truncated_share"] == share


def test_rows_and_tokens_are_counted_for_every_split(tokenizer):
    encoded = encode(tokenizer, splits(split(1, 2, 10), split(3), split(4, 0)))
    assert encoded.counts == {
        "train": {"rows": 3, "tokens": 3 + 4 + 6, "truncated_share": 1 / 3},
        "validation": {"rows": 1, "tokens": 5, "truncated_share": 0.0},
        "test": {"rows": 2, "tokens": 6 + 2, "truncated_share": 0.0},
    }


def test_padding_is_not_counted_as_tokens_or_length(tokenizer):
    encoded = encode(tokenizer, splits(split(1, 2)), padding="max_length")
    assert [len(ids) for ids in encoded.train["input_ids"]] == [6, 6]
    assert list(encoded.train["length"]) == [3, 4]
    assert encoded.counts["train"] == {"rows": 2, "tokens": 7, "truncated_share": 0.0}


def test_row_ids_labels_texts_and_order_stay(tokenizer):
    encoded = encode(tokenizer, splits(split(3, 1, 10, 2, first=7)))
    assert list(encoded.train["row_id"]) == [7, 8, 9, 10]
    assert list(encoded.train["labels"]) == [0, 1, 0, 1]
    assert list(encoded.train["length"]) == [5, 3, 6, 4]
    assert "text" in encoded.train.column_names and "truncated" not in encoded.train.column_names


def test_the_token_ids_are_the_tokenizer_s(tokenizer):
    encoded = encode(tokenizer, splits(split(3)))
    assert encoded.train[0]["input_ids"] == tokenizer(words(3))["input_ids"]


def test_a_split_that_is_not_there_stays_away(tokenizer):
    encoded = encode(tokenizer, splits(test=split(1)))
    assert (encoded.train, encoded.validation) == (None, None)
    assert list(encoded.counts) == ["test"]


def test_a_split_without_labels_gets_none(tokenizer):
    encoded = encode(tokenizer, splits(test=split(1, 2).remove_columns("labels")))
    assert "labels" not in encoded.test.column_names


def test_more_rows_than_one_batch_stay_in_order(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH", 3)
    encoded = encode(tokenizer, splits(split(*range(1, 11))), max_length=20)
    assert list(encoded.train["length"]) == list(range(3, 13))


def test_tokens_are_on_disk_not_in_memory():
    """20,000 rows of 200 tokens are 16 MB; their table says how much of them the process holds."""
    rows = datasets.Dataset.from_dict({"row_id": range(20_000), "text": ["a"] * 20_000})

    def encode_rows(batch):
        return {
            "input_ids": [[7] * 200 for _ in batch["text"]],
            "attention_mask": [[1] * 200 for _ in batch["text"]],
        }

    before = pyarrow.total_allocated_bytes()
    encoded = encoding.encode(splits(rows), encode_rows, Arguments()).train
    assert encoded.data.nbytes > 16e6
    assert pyarrow.total_allocated_bytes() - before < 2e6
    assert encoded[19_999]["input_ids"] == [7] * 200
    assert len(pickle.loads(pickle.dumps(encoded))) == 20_000  # the file's name is gone by now


def test_two_processes_give_what_one_gives(tokenizer, socket_enabled):
    given = splits(split(*range(1, 9)))
    one, two = encode(tokenizer, given), encode(tokenizer, given, preprocessing_num_workers=2)
    assert one.train.to_dict() == two.train.to_dict()
    assert one.counts == two.counts


def test_the_width_of_a_row_is_that_of_its_longer_side():
    rows = {"source": ["a b c", "a"], "target": ["x", "x y z w"]}

    def words(rows):
        ids, labels = (
            [list(range(len(text.split()))) for text in rows[name]] for name in ("source", "target")
        )
        return {
            "input_ids": ids,
            "attention_mask": [[1] * len(row) for row in ids],
            "labels": labels,
        }

    assert encoding._batch(words, rows)["width"] == [3, 4]


def test_tables_are_not_hashed_for_their_tokens(tokenizer, monkeypatch):
    """datasets reads every table that the encode function knows into memory for it."""
    hashed, usual = [], datasets.fingerprint.Hasher.hash
    monkeypatch.setattr(
        datasets.fingerprint.Hasher,
        "hash",
        staticmethod(lambda value: hashed.append(value) or usual(value)),
    )
    encode(tokenizer, splits(split(1, 10, 2), split(1, 10, 2)))
    assert hashed and not any(map(callable, hashed))


def test_a_stream_is_tokenised_while_it_is_read(tokenizer):
    held = split(1, 10, 2)
    encoded = encode(tokenizer, splits(held.to_iterable_dataset(), held))
    columns = ["input_ids", "attention_mask", "labels"]
    streamed = [{name: row[name] for name in columns} for row in itertools.islice(encoded.train, 3)]
    assert streamed == [{name: row[name] for name in columns} for row in encoded.validation]
    assert list(encoded.counts) == ["validation"]


def numbers():
    """An endless stream of the numbers 0 to 19."""
    rows = (
        datasets.Dataset.from_dict({"number": range(20)})
        .to_iterable_dataset()
        .shuffle(seed=1, buffer_size=20)
    )
    return encoding.RowStream(rows, lambda columns: {"number": columns["number"]}, ())


def test_a_stream_gives_every_row_once_an_epoch_without_end():
    found = [row["number"] for row in itertools.islice(numbers(), 60)]
    epochs = [found[:20], found[20:40], found[40:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_loaders_worker_that_is_ahead_changes_the_epoch_of_no_other():
    """datasets keeps the epoch of a stream in memory that all workers share."""
    stream = numbers()
    list(itertools.islice(stream, 60))
    assert stream.rows.epoch == 0


GOES_ON = """
import itertools, sys
import datasets, torch
sys.path.insert(0, sys.argv[1])
from recipes.common.tokens import encoding


def batches(workers, first, number):
    rows = datasets.Dataset.from_dict({"number": range(20)}).to_iterable_dataset().shuffle(seed=1, buffer_size=20)
    stream = encoding.RowStream(rows, lambda columns: {"number": columns["number"]}, ())
    stream.go_to(first)
    loader = torch.utils.data.DataLoader(stream, batch_size=3, num_workers=workers, collate_fn=list)
    return list(itertools.islice(loader, number))


for workers in (0, 1, 2):
    assert batches(workers, 24, 6) == batches(workers, 0, 14)[8:], workers
print("the same")
"""


def test_a_stream_goes_on_after_the_rows_that_were_trained_on():
    """Batches of 3: 8 of them are 24 rows, the first epoch and 4 rows of the second. Loaders fork: not from here."""
    command = [sys.executable, "-c", GOES_ON, str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout == "the same\n", ended.stderr


def test_what_a_stream_passes_over_is_not_tokenised():
    stream, seen = numbers(), []
    stream.encode_rows = lambda columns: seen.extend(columns["number"]) or {}
    whole = [row["number"] for row in itertools.islice(numbers(), 40)]
    stream.go_to(25)
    next(iter(stream))
    assert seen == whole[25:]
