"""Turns texts into tokens: runs a recipe's encode function over every split.

It counts the rows that were cut.
"""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from datasets.fingerprint import generate_random_fingerprint

from recipes.common.config import step_sizes
from recipes.common.config.flags import Arguments, GenerationArguments
from recipes.common.data.labels import MISSING
from recipes.common.data.splits import Splits
from recipes.common.model.loading import max_length
from recipes.common.runtime import processes, upstream
from recipes.common.runtime.messages import is_main_process
from recipes.common.runtime.safe_folders import working_folder
from recipes.common.tokens.positions import PositionedStream

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

BATCH = 1000
MANY_ROWS = 50_000  # more rows take over two seconds, and get a progress bar
Encode = Callable[[dict[str, list]], "BatchEncoding"]  # columns of a batch -> its tokens


@dataclass
class Tokens:
    """Holds the splits as token ids, ready for Trainer.

    `counts` holds for each split its rows, its tokens and the share of its rows that are truncated.
    """

    train: datasets.Dataset | torch.utils.data.Dataset | None = None
    validation: datasets.Dataset | None = None
    test: datasets.Dataset | None = None
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens_per_batch: int | None = None  # batches are filled by tokens instead of rows


class RowStream(PositionedStream):
    """Streams rows as tokens without an end, epoch after epoch, each in its own order.

    So no process gets fewer rows than another. A run that is resumed continues where it stopped,
    also after its first epoch: rows that it has trained on are read, but not tokenised.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        encode_rows: Encode,
        replaced: Collection[str],
        number: int | None = None,
    ):
        self.rows = rows
        self.encode_rows = encode_rows
        self.replaced = replaced  # columns that the tokens replace
        self.number = number  # of rows, where they were counted
        self.first = 0  # the row to begin with

    def steps(self, rows: int, accumulated: int) -> Fraction | None:
        """Returns the steps of an epoch: the same number as for rows in memory.

        None where the rows have not been counted.
        """
        if self.number is None:
            return None
        return Fraction(step_sizes.steps_per_epoch(self.number, rows, accumulated))

    def go_to(self, first: int) -> None:
        """Begins the next pass after the `first` rows."""
        self.first = first

    def load_position(self, folder: Path, rows: int, vocabulary: int) -> None:
        """Begins the next pass after `rows` rows: no file is needed for it."""
        self.go_to(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        passed_over = self.first
        # A copy: the workers of a loader share the epoch of the original.
        own = self.rows.with_format(None)
        for epoch in itertools.count():
            own.set_epoch(epoch)
            rows, empty = iter(own), True
            for row in rows:
                empty = False
                if passed_over:
                    passed_over -= 1
                else:
                    yield from self._encoded([row, *itertools.islice(rows, BATCH - 1)])
            if empty:  # a loader's second worker: only one worker reads, in order
                return

    def _encoded(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        columns = {}
        for name in rows[0]:
            columns[name] = [row[name] for row in rows]
        encoded = self.encode_rows(columns)
        kept = dict(columns)
        for name in self.replaced:
            kept.pop(name, None)
        kept |= dict(encoded)
        for number in range(len(rows)):
            yield {name: values[number] for name, values in kept.items()}


@processes.once_per_node
def encode(splits: Splits, encode_rows: Encode, arguments: Arguments) -> Tokens:
    """Returns the splits with `encode_rows` applied; the texts stay beside their tokens."""
    _show_bars(splits)
    tokens = Tokens(tokens_per_batch=getattr(arguments, "tokens_per_batch", None))
    for name, split in splits.items():
        if isinstance(split, datasets.IterableDataset):
            replaced = {*splits.texts, splits.target, "row_id"}
            tokens.train = RowStream(split, encode_rows, replaced, splits.streamed)
            continue
        workers = arguments.preprocessing_num_workers
        encoded = _on_disk(split, partial(_batch, encode_rows), workers, name)
        tokens.counts[name] = _counts(encoded)
        setattr(tokens, name, encoded.remove_columns("truncated"))
    return tokens


def _show_bars(splits: Splits) -> None:
    """Shows the bars of `datasets` where there are many rows, from the main process only."""
    rows = 0
    for _, split in splits.items():
        if isinstance(split, datasets.Dataset):
            rows += len(split)
    if rows > MANY_ROWS and is_main_process():
        datasets.enable_progress_bars()
    else:
        datasets.disable_progress_bars()


def _counts(encoded: datasets.Dataset) -> dict[str, Any]:
    # With [:] a column is read at once, not row by row.
    lengths = encoded["length"][:]
    truncated = encoded["truncated"][:]
    counts = {"rows": len(encoded), "tokens": sum(lengths)}
    if None not in truncated:
        counts["truncated_share"] = sum(truncated) / max(len(encoded), 1)
    return counts


def _on_disk(
    split: datasets.Dataset, encode_batch: Callable, workers: int | None, name: str
) -> datasets.Dataset:
    """Returns the split with its new columns, read by memory map from a file without a name.

    The file ends with the process.
    """
    with working_folder("tokens-") as folder:
        encoded = split.map(
            encode_batch,
            batched=True,
            batch_size=BATCH,
            num_proc=workers,
            cache_file_name=str(Path(folder, f"{name}.arrow")),
            # Without it, datasets would read all tables into memory, to hash them.
            new_fingerprint=generate_random_fingerprint(),
            desc=f"tokenising {name}",
        )
        fingerprint = upstream.fingerprint_of(encoded)
        return datasets.Dataset(encoded.data.table, encoded.info, fingerprint=fingerprint)


def pairs(
    tokenizer: "PreTrainedTokenizerBase", model: torch.nn.Module, arguments: GenerationArguments
) -> Callable[[list[str], list[str]], "BatchEncoding"]:
    """Returns an encode function for (sources, targets): token ids with labels.

    Both are cut to their maximum. A row without a target has the label -100 alone: a text is
    generated for it, and counts in no score.
    """
    longest_source = max_length(arguments.max_source_length, tokenizer, model)
    longest_target = max_length(arguments.max_target_length, tokenizer, model, answer=True)
    padding = "max_length" if arguments.pad_to_max_length else False
    options = {"truncation": True, "padding": padding}

    def encode_pairs(sources: list[str], targets: list[str]) -> "BatchEncoding":
        encoded = tokenizer(sources, max_length=longest_source, **options)
        found = tokenizer(text_target=targets, max_length=longest_target, **options)["input_ids"]
        labels = []
        for row, text in zip(found, targets, strict=True):
            if not text:
                row = [MISSING]
            elif arguments.ignore_pad_token_for_loss:
                row = _without_padding(row, tokenizer.pad_token_id)
            labels.append(row)
        encoded["labels"] = labels
        return encoded

    return encode_pairs


def _without_padding(row: list[int], padding: int) -> list[int]:
    """Returns the labels of a row, with MISSING for padding."""
    if padding not in row:
        return row
    return [MISSING if token == padding else token for token in row]


def _batch(encode_rows: Encode, rows: dict[str, list]) -> dict[str, Any]:
    """Returns the encoded columns of a batch with the length and the width of each row.

    The width is the length of the row's longer side, with padding: it decides a batch's width.
    """
    encoded = encode_rows(rows)
    columns = dict(encoded)
    columns["length"] = list(map(sum, encoded["attention_mask"]))
    sides = [columns["input_ids"]]
    if "labels" in columns:
        sides.append(columns["labels"])
    columns["width"] = [max(map(len, row)) for row in zip(*sides, strict=True)]
    columns["truncated"] = _truncated(encoded)
    return columns


def _truncated(encoded: "BatchEncoding") -> list[bool] | list[None]:
    """Returns for each row whether it was truncated; None where the tokenizer does not say so."""
    fast = getattr(encoded, "encodings", None)
    if not fast:
        return [None] * len(encoded["attention_mask"])
    return [bool(one.overflowing) for one in fast]
