"""Text -> tokens: runs a recipe's encode function over every split and counts what was cut off."""

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets.fingerprint import generate_random_fingerprint

from recipes.common.config.flags import Arguments
from recipes.common.data.labels import MISSING
from recipes.common.data.splits import Splits
from recipes.common.model.loading import max_length
from recipes.common.runtime import processes
from recipes.common.runtime.messages import is_main_process
from recipes.common.runtime.safe_folders import working_folder
from recipes.common.tokens.positions import PositionedStream

BATCH = 1000
MANY_ROWS = 50_000  # take more than two seconds, and so get a bar


@dataclass
class Tokens:
    """The splits as token ids, ready for Trainer, and for each its rows, tokens and the share of truncated rows."""

    train: datasets.Dataset | torch.utils.data.Dataset | None = None
    validation: datasets.Dataset | None = None
    test: datasets.Dataset | None = None
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Endless(PositionedStream):
    """The rows of a stream as tokens, epoch after epoch, each in an order of its own.

    Without an end no process gets fewer rows than another, and a run goes on after its first epoch where it stopped:
    what it has trained on is read past, not tokenised.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        encode_rows: Callable[[dict], Any],
        replaced: Collection[str],
        number: int | None = None,
    ):
        self.rows, self.encode_rows, self.replaced = rows, encode_rows, replaced
        self.number = number  # of rows, where they were counted
        self.first = 0  # the row to begin with

    def steps(self, rows: int, accumulated: int) -> Fraction | None:
        """Steps of an epoch, as many as of the same rows in memory; None where nobody has counted them."""
        return (
            None
            if self.number is None
            else Fraction(math.ceil(math.ceil(self.number / rows) / accumulated))
        )

    def go_to(self, first: int) -> None:
        """Begins the next pass after so many rows."""
        self.first = first

    def load_position(self, folder: Path, rows: int, vocabulary: int) -> None:
        """Begins the next pass after so many rows: a stream of rows needs no more than their number."""
        self.go_to(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        passed_over = self.first
        own = self.rows.with_format(
            None
        )  # a copy: a loader's workers share the epoch of the original
        for epoch in itertools.count():
            own.set_epoch(epoch)
            rows, empty = iter(own), True
            for row in rows:
                empty = False
                if passed_over:
                    passed_over -= 1
                else:
                    yield from self._encoded([row, *itertools.islice(rows, BATCH - 1)])
            if empty:  # a loader's second worker: one reads, in order
                return

    def _encoded(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        encoded = self.encode_rows(columns)
        columns = {
            name: values for name, values in columns.items() if name not in self.replaced
        } | dict(encoded)
        for number in range(len(rows)):
            yield {name: values[number] for name, values in columns.items()}


@processes.once_per_node
def encode(splits: Splits, encode_rows: Callable[[dict], Any], arguments: Arguments) -> Tokens:
    """The splits with `encode_rows` (rows of a batch -> BatchEncoding) applied; the texts stay beside their tokens."""
    tokens = Tokens()
    rows = sum(len(split) for _, split in splits.items() if isinstance(split, datasets.Dataset))
    show = (
        datasets.enable_progress_bars
        if rows > MANY_ROWS and is_main_process()
        else datasets.disable_progress_bars
    )
    show()
    for name, split in splits.items():
        if isinstance(split, datasets.IterableDataset):
            tokens.train = Endless(
                split, encode_rows, {*splits.texts, splits.target, "row_id"}, splits.streamed
            )
            continue
        encoded = _on_disk(
            split, partial(_batch, encode_rows), arguments.preprocessing_num_workers, name
        )
        lengths, truncated = (
            encoded[column][:] for column in ("length", "truncated")
        )  # a Column gives row by row
        tokens.counts[name] = {"rows": len(encoded), "tokens": sum(lengths)}
        if None not in truncated:
            tokens.counts[name]["truncated_share"] = sum(truncated) / max(len(encoded), 1)
        setattr(tokens, name, encoded.remove_columns("truncated"))
    return tokens


def _on_disk(
    split: datasets.Dataset, encode_batch: Callable, workers: int | None, name: str
) -> datasets.Dataset:
    """The split with its columns beside, read by memory map from a file without a name, which goes with the process."""
    with working_folder("tokens-") as folder:
        encoded = split.map(
            encode_batch,
            batched=True,
            batch_size=BATCH,
            num_proc=workers,
            cache_file_name=str(Path(folder, f"{name}.arrow")),
            new_fingerprint=generate_random_fingerprint(),  # or all tables are read into memory, and hashed
            desc=f"tokenising {name}",
        )
        return datasets.Dataset(encoded.data.table, encoded.info, fingerprint=encoded._fingerprint)


def pairs(tokenizer: Any, model: Any, arguments: Any) -> Callable[[list[str], list[str]], Any]:
    """An encode function for (sources, targets): token ids with labels, both cut to their maximum.

    A row without a target has the label -100 alone: it is answered, and counts in no score.
    """
    longest_source = max_length(arguments.max_source_length, tokenizer, model)
    longest_target = max_length(arguments.max_target_length, tokenizer, model, answer=True)
    options = {
        "truncation": True,
        "padding": "max_length" if arguments.pad_to_max_length else False,
    }

    def encode_pairs(sources: list[str], targets: list[str]) -> Any:
        encoded = tokenizer(sources, max_length=longest_source, **options)
        labels = tokenizer(text_target=targets, max_length=longest_target, **options)["input_ids"]
        if arguments.ignore_pad_token_for_loss:
            labels = [
                [MISSING if token == tokenizer.pad_token_id else token for token in row]
                for row in labels
            ]
        encoded["labels"] = [
            row if text else [MISSING] for row, text in zip(labels, targets, strict=True)
        ]
        return encoded

    return encode_pairs


def _batch(encode_rows: Callable[[dict], Any], rows: dict) -> dict[str, Any]:
    encoded = encode_rows(rows)
    columns = dict(encoded)
    fast = getattr(encoded, "encodings", None) or []
    columns["length"] = [sum(mask) for mask in encoded["attention_mask"]]
    sides = [columns[name] for name in ("input_ids", "labels") if name in columns]
    columns["width"] = [
        max(map(len, row)) for row in zip(*sides, strict=True)
    ]  # what the row makes of a batch
    columns["truncated"] = [bool(one.overflowing) for one in fast] or [None] * len(
        columns["length"]
    )  # not known
    return columns
