"""Blocks: every token in exactly one of them, in order; streams that go on where a checkpoint was written."""

import itertools
import json
import pickle
import time
from fractions import Fraction
from types import SimpleNamespace

import datasets
import numpy
import pytest
import torch

from recipes.common.runtime.errors import Refusal
from recipes.common.tokens import packing, tokenising
from recipes.common.tokens.blocks import Blocks, Layout
from recipes.common.tokens.stream import POSITION, WINDOW, Stream

END, PAD, CLS = 1, 0, 2


class Letters:
    """A tokenizer of one token a letter: a is 10, b is 11, …; a line break is 9."""

    def __call__(self, texts, **options):
        return {
            "input_ids": [
                [9 if letter == "\n" else ord(letter) - 87 for letter in text] for text in texts
            ]
        }


class WithoutBreaks(Letters):
    """To it line breaks are no tokens."""

    def __call__(self, texts, **options):
        return super().__call__([text.replace("\n", "") for text in texts])


def splits(train, validation=("aaaa",)):
    named = {"train": train, "validation": list(validation)}
    data = {
        name: datasets.Dataset.from_dict({"text": list(texts)}) for name, texts in named.items()
    }
    return SimpleNamespace(texts=("text",), items=data.items, whole=())


def arguments(streaming=False, **limits):
    none = dict.fromkeys(("max_train_samples", "max_eval_samples", "max_predict_samples"))
    flags = {
        "streaming": streaming,
        "prepared_dir": None,
        "prepare_only": False,
        "dataset_name": None,
    }
    return SimpleNamespace(**flags | none | limits)


def training(max_steps=-1, epochs=1, **strategies):
    return SimpleNamespace(
        seed=1,
        max_steps=max_steps,
        train_batch_size=2,
        world_size=1,
        gradient_accumulation_steps=1,
        num_train_epochs=epochs,
        **dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "steps")
        | strategies,
    )


def pack(texts, size=4, **options):
    layout = Layout(size, END, PAD, **options)
    return packing.pack(splits(texts), Letters(), layout, arguments(), training())


def ids(blocks):
    return [row["input_ids"].tolist() for row in blocks]


def test_documents_end_with_the_end_token_and_the_tail_is_kept():
    tokens = pack(["abc", "de"])
    assert ids(tokens.train) == [[10, 11, 12, END], [13, 14, END]]
    counts = tokens.counts["train"]
    assert (counts["tokens"], counts["packed"], counts["bytes"], counts["blocks"]) == (7, 7, 5, 2)


def test_texts_are_tokenised_by_so_many_characters(monkeypatch):
    monkeypatch.setattr(tokenising, "CHARACTERS", 6)
    texts = ["abc", "", "d", "abcdefghi", "e"]  # each counts one more than its letters
    batches = tokenising.batches(datasets.Dataset.from_dict({"text": texts}), "text", "train")
    assert list(batches) == [["abc", "", "d"], ["abcdefghi"], ["e"]]
    found = pack(texts, size=99).train
    monkeypatch.undo()
    assert ids(found) == ids(pack(texts, size=99).train)


def test_a_text_that_ends_in_a_line_break_goes_on_in_the_next():
    assert ids(pack(["a\n", "b\n", "c"], size=9).train) == [[10, 9, 11, 9, 12, END]]
    assert ids(pack(["a\n"], size=9).train) == [[10, 9, END]]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_whole_text_ends_even_after_a_line_break(streaming):
    """Nearly all files of code do: their documents had no end."""
    found = splits(["a\n", "b\n", "c"])
    found.whole = ("train",)
    tokens = packing.pack(
        found, Letters(), Layout(9, END, PAD), arguments(streaming), training(max_steps=1)
    )
    first = next(iter(tokens.train))["input_ids"].tolist()
    after_breaks = [token for before, token in itertools.pairwise(first) if before == 9]
    assert len(after_breaks) >= 2
    assert set(after_breaks) == {END}


def test_a_memory_map_goes_to_other_processes_without_a_copy(tmp_path):
    """numpy puts a memory map's bytes into the pickle itself; processes.once_per_node maps what stands beside it."""
    numpy.arange(1000, dtype=numpy.int32).tofile(tmp_path / "ids.bin")
    ids, ends = (
        numpy.memmap(tmp_path / "ids.bin", dtype=numpy.int32, mode="r"),
        numpy.asarray([1000]),
    )
    blocks, beside = Blocks(ids, ends - 1000, ends, Layout(1000, END, PAD), trains=False), []
    assert len(pickle.dumps(blocks, protocol=5, buffer_callback=beside.append)) < ids.nbytes
    assert ids.nbytes in [buffer.raw().nbytes for buffer in beside]


def test_what_a_worker_reported_during_a_step_is_known_when_it_is_saved():
    stream = packing.pack(
        splits(["abc"]), Letters(), Layout(4, END, PAD), arguments(True), training(1)
    ).train
    mark = {"epoch": 250, "row": 0, "carried": []}
    stream._reported.put((1, mark))
    time.sleep(0.1)
    assert stream.position(WINDOW)["mark"] == mark


@pytest.mark.parametrize("stride", [-1, 5])
def test_blocks_that_would_leave_tokens_out_are_refused(stride):
    with pytest.raises(Refusal, match="cannot be moved by"):
        Layout(4, END, PAD, stride=stride)


def test_a_last_text_without_tokens_ends_the_document():
    """WordPiece makes nothing of the blank line that a file ends with."""
    tokens = packing.pack(
        splits(["ab\n", "\n"]), WithoutBreaks(), Layout(4, END, PAD), arguments(), training()
    )
    assert ids(tokens.train) == [[10, 11, END]]


def test_a_prefix_stands_before_every_block_and_is_no_token_of_the_text():
    tokens = pack(["abcd"], prefix=CLS)
    assert ids(tokens.train) == [[CLS, 10, 11, 12], [CLS, 13, END]]
    assert tokens.counts["train"]["tokens"] == tokens.counts["train"]["packed"] == 5


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_overlapping_blocks_predict_every_token_once(stride):
    layout = Layout(4, END, PAD, stride=stride)
    rows = list(
        packing.pack(
            splits(["x"], ["abcdefghij"]), Letters(), layout, arguments(), training()
        ).validation
    )
    predicted = [token for row in rows for token in row["input_ids"][row["context"] :].tolist()]
    assert predicted == [*range(10, 20), END]


def test_blocks_say_their_row_and_epoch_and_evaluation_has_none():
    tokens = pack(["abcdefg"])
    tokens.train.set_epoch(3)
    tokens.validation.set_epoch(3)
    assert [(row["row"], row["epoch"]) for row in tokens.train] == [(0, 3), (1, 3)]
    assert [row["epoch"] for row in tokens.validation] == [None, None]


def test_workers_that_persist_learn_the_epoch():
    """They kept the first one, and with it its masks."""
    train = pack(["abcdefg"]).train
    epochs = {"collate_fn": lambda rows: [row["epoch"] for row in rows]}
    loader = torch.utils.data.DataLoader(train, 2, num_workers=1, persistent_workers=True, **epochs)
    train.set_epoch(0)
    assert list(loader) == [[0, 0]]
    train.set_epoch(1)
    assert list(loader) == [[1, 1]]


def test_line_by_line_cuts_each_text_to_the_block():
    layout = Layout(5, END, PAD, prefix=CLS)
    tokens = packing.lines(splits(["ab", "abcdefg"]), Letters(), layout, arguments(), training())
    assert ids(tokens.train) == [[CLS, 10, 11, END], [CLS, 10, 11, 12, END]]
    assert tokens.counts["train"]["truncated_share"] == 0.5


def test_line_by_line_and_streaming_exclude_each_other():
    with pytest.raises(Refusal, match="line by line"):
        packing.lines(splits(["a"]), Letters(), Layout(4, END, PAD), arguments(True), training())


TEXTS = [
    "abcdefgh"[: 1 + number % 8] for number in range(3000)
]  # 3,000 texts, 16,500 tokens with their end tokens


def stream(texts=TEXTS, seed=1):
    found = splits(texts)
    layout = Layout(4, END, PAD)
    rows = dict(found.items())["train"].to_iterable_dataset()
    return Stream(rows, "text", tokenising.Encoder(Letters(), layout), layout, seed)


def take(blocks, count):
    return [
        (row["row"], row["epoch"], *row["input_ids"].tolist())
        for row, _ in zip(blocks, range(count), strict=False)
    ]


def test_an_epoch_of_a_stream_has_every_token_once():
    in_memory = pack(TEXTS)
    rows = take(stream(), 5000)  # five windows: the first epoch and the begin of the second
    ordered = [list(row[2:]) for row in sorted(rows) if row[1] == 0]
    assert ordered == ids(in_memory.train)[: len(ordered)]
    assert len(ordered) == 16_500 // 4


def test_a_stream_is_shuffled_by_its_seed():
    assert take(stream(seed=1), 50) != take(stream(seed=2), 50)
    assert take(stream(seed=1), 50) == take(stream(seed=1), 50)


@pytest.mark.parametrize("blocks", [0, 7, 999, 1000, 2345, 5000])
def test_a_resumed_stream_goes_on_with_no_block_lost_or_seen_twice(blocks, tmp_path):
    whole = take(stream(), 6000)
    first = stream()
    assert take(first, blocks + 30) == whole[: blocks + 30]  # read ahead, as data loaders do
    first.save_position(tmp_path, blocks)
    again = stream()
    again.load_position(tmp_path, 0, 300)
    assert take(again, 500) == whole[blocks : blocks + 500]


def test_the_position_in_a_long_document_is_small(tmp_path):
    """A loader's worker reports it through a pipe of 64 KiB, which the training process empties once a step."""
    texts = ["abc", "abcdefgh" * 1500]  # 12,000 tokens in 3,000 blocks
    whole, first = take(stream(texts), 4000), stream(texts)
    take(first, 2530)
    first.save_position(tmp_path, 2500)
    mark = json.loads((tmp_path / POSITION).read_text())["mark"]
    assert mark == {
        "epoch": 0,
        "row": 1,
        "begins": True,
        "carried": [],
        "blocks": 1999,
    }  # the first block is "abc" and its end
    again = stream(texts)
    again.load_position(tmp_path, 0, 300)
    assert take(again, 1000) == whole[2500:3500]


@pytest.mark.parametrize(
    "damage",
    [
        {"blocks": -1},
        {"blocks": "7"},
        {"mark": {"epoch": 0, "row": 0}},
        {"mark": {"epoch": 0, "row": 0.5, "carried": []}},
        {"mark": {"epoch": 0, "row": 0, "carried": [1, 300]}},
        {"mark": {"epoch": 0, "row": 0, "carried": [], "blocks": -1}},
    ],
)
def test_a_position_that_no_stream_has_is_not_gone_to(damage, tmp_path):
    position = {"blocks": 7, "mark": {"epoch": 0, "row": 0, "carried": []}}
    (tmp_path / POSITION).write_text(json.dumps(position | damage))
    with pytest.raises((LookupError, TypeError, ValueError)):
        stream().load_position(tmp_path, 0, 300)


def test_the_steps_of_a_stream_follow_from_its_tokens():
    found = splits(["abc"] * 8, ["a"])  # 8 documents of 4 tokens: 8 blocks, 4 steps of 2
    settings = training(epochs=3)
    packing.pack(found, Letters(), Layout(4, END, PAD), arguments(streaming=True), settings)
    assert settings.max_steps == 12


def test_given_steps_are_kept():
    settings = training(max_steps=5)
    packing.pack(
        splits(["abc"]), Letters(), Layout(4, END, PAD), arguments(streaming=True), settings
    )
    assert settings.max_steps == 5


@pytest.mark.parametrize(
    ("strategy", "remote", "steps"),
    [("epoch", None, 4), ("steps", None, None), ("epoch", "x", None)],
)
def test_given_steps_are_kept_and_the_end_of_an_epoch_is_known_where_it_is_needed(
    strategy, remote, steps
):
    settings = training(max_steps=5, save_strategy=strategy)
    wanted = arguments(streaming=True, dataset_name=remote)
    packed = packing.pack(splits(["abc"] * 8), Letters(), Layout(4, END, PAD), wanted, settings)
    assert packed.train.steps(2, 1) == steps  # 8 documents of 4 tokens are 8 blocks, 4 steps of 2
    assert settings.max_steps == 5


def test_an_epoch_of_a_stream_may_end_within_a_step():
    """Three documents of 4 tokens are 2.4 blocks of 5: 1.2 steps of two blocks, 12 in ten epochs."""
    settings = training(epochs=10)
    found = packing.pack(
        splits(["abc"] * 3), Letters(), Layout(5, END, PAD), arguments(True), settings
    )
    assert found.train.steps(2, 1) == Fraction(6, 5)
    assert settings.max_steps == 12


def test_a_stream_that_fills_no_block_is_refused():
    with pytest.raises(Refusal, match="does not fill one block"):
        packing.pack(
            splits(["a"]), Letters(), Layout(99, END, PAD), arguments(streaming=True), training()
        )


def test_limits_count_blocks_not_texts():
    layout, limits = Layout(4, END, PAD), arguments(max_train_samples=2, max_eval_samples=9)
    tokens = packing.pack(splits(["abcdefghijk", "l"]), Letters(), layout, limits, training())
    assert ids(tokens.train) == [[10, 11, 12, 13], [14, 15, 16, 17]]
    assert (tokens.counts["train"]["blocks"], tokens.counts["train"]["used"]) == (4, 2)
    assert len(tokens.validation) == 2 and "used" not in tokens.counts["validation"]
    one = packing.lines(
        splits(["a", "b"]), Letters(), layout, arguments(max_train_samples=1), training()
    )
    assert ids(one.train) == [[10, END]]


def test_selected_blocks_still_know_the_bytes_of_their_tokens():
    blocks = pack(["abc"]).train  # 4 tokens with the end token, 3 bytes
    assert blocks.select(range(1)).tokens_per_byte == blocks.tokens_per_byte == 4 / 3


@pytest.mark.parametrize(
    ("limit", "streaming", "message"),
    [(0, False, "is 0"), (0, True, "is 0"), (5, True, "stream's blocks")],
)
def test_limits_that_cannot_be_kept_are_refused(limit, streaming, message):
    limits = arguments(streaming, max_train_samples=limit)
    with pytest.raises(Refusal, match=message):
        packing.pack(splits(["abc"]), Letters(), Layout(4, END, PAD), limits, training())


def test_a_stream_cannot_be_prepared():
    wanted = arguments(streaming=True)
    wanted.prepare_only = True
    with pytest.raises(Refusal, match="tokenised while it is trained on"):
        packing.pack(splits(["abc"]), Letters(), Layout(4, END, PAD), wanted, training())


@pytest.mark.parametrize("rank", ["0", "1"])
def test_every_process_ends_when_the_tokens_are_prepared(rank, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(tokenising, "as_text", str)
    wanted = arguments()
    wanted.prepare_only, wanted.prepared_dir = True, str(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        packing.pack(splits(["abc"]), Letters(), Layout(4, END, PAD), wanted, training())
    assert ("prepared" in capsys.readouterr().out) == (rank == "0")


def test_data_without_text_is_refused():
    with pytest.raises(Refusal, match="the validation data has no text"):
        packing.pack(splits(["abc"], [""]), Letters(), Layout(4, END, PAD), arguments(), training())


def test_blocks_can_be_selected():
    tokens = pack(["abcdefghi"])
    assert ids(tokens.train.select(range(1, 2))) == ids(tokens.train)[1:2]
    assert numpy.all(tokens.train.ids == numpy.array([*range(10, 19), END]))
