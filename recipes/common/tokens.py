"""Text -> tokens: runs a recipe's encode function over every split and counts what was cut off."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import torch

from recipes.common import world
from recipes.common.args import Arguments
from recipes.common.data import Splits
from recipes.common.errors import is_main_process
from recipes.common.labels import MISSING
from recipes.common.models import max_length

BATCH = 1000
MANY_ROWS = 50_000  # take more than two seconds, and so get a bar


@dataclass
class Tokens:
    """The splits as token ids, ready for Trainer, and for each its rows, tokens and the share of truncated rows."""

    train: datasets.Dataset | torch.utils.data.Dataset | None = None
    validation: datasets.Dataset | None = None
    test: datasets.Dataset | None = None
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Endless(torch.utils.data.IterableDataset):
    """The rows of a stream, epoch after epoch, each in an order of its own.

    Without an end no process gets fewer rows than another, and a run goes on after its first epoch where it stopped.
    """

    def __init__(self, rows: datasets.IterableDataset):
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for epoch in itertools.count():
            self.rows.set_epoch(epoch)
            rows = iter(self.rows)
            first = next(rows, None)
            if first is None:  # a loader's worker that no part of the stream is left for
                return
            yield first
            yield from rows


@world.once_per_node
def encode(splits: Splits, encode_rows: Callable[[dict], Any], arguments: Arguments) -> Tokens:
    """The splits with `encode_rows` (rows of a batch -> BatchEncoding) applied; the texts stay beside their tokens."""
    tokens = Tokens()
    rows = sum(len(split) for _, split in splits.items() if isinstance(split, datasets.Dataset))
    show = datasets.enable_progress_bars if rows > MANY_ROWS and is_main_process() else datasets.disable_progress_bars
    show()
    for name, split in splits.items():
        if isinstance(split, datasets.IterableDataset):
            drop = [name for name in (*splits.texts, splits.target, "row_id") if name]
            tokens.train = Endless(
                split.map(partial(_batch, encode_rows, count=False), batched=True, remove_columns=drop)
            )
            continue
        encoded = split.map(
            partial(_batch, encode_rows),
            batched=True,
            batch_size=BATCH,
            num_proc=arguments.preprocessing_num_workers,
            desc=f"tokenising {name}",
        )
        tokens.counts[name] = {
            "rows": len(encoded),
            "tokens": sum(encoded["length"]),
        }
        if None not in encoded["truncated"]:
            tokens.counts[name]["truncated_share"] = sum(encoded["truncated"]) / max(len(encoded), 1)
        setattr(tokens, name, encoded.remove_columns("truncated"))
    return tokens


def pairs(tokenizer: Any, model: Any, arguments: Any) -> Callable[[list[str], list[str]], Any]:
    """An encode function for (sources, targets): token ids with labels, both cut to their maximum.

    A row without a target has the label -100 alone: it is answered, and counts in no score.
    """
    longest_source = max_length(arguments.max_source_length, tokenizer, model)
    longest_target = max_length(arguments.max_target_length, tokenizer, model)
    options = {"truncation": True, "padding": "max_length" if arguments.pad_to_max_length else False}

    def encode_pairs(sources: list[str], targets: list[str]) -> Any:
        encoded = tokenizer(sources, max_length=longest_source, **options)
        labels = tokenizer(text_target=targets, max_length=longest_target, **options)["input_ids"]
        if arguments.ignore_pad_token_for_loss:
            labels = [[MISSING if token == tokenizer.pad_token_id else token for token in row] for row in labels]
        encoded["labels"] = [row if text else [MISSING] for row, text in zip(labels, targets, strict=True)]
        return encoded

    return encode_pairs


def _batch(encode_rows: Callable[[dict], Any], rows: dict, count: bool = True) -> dict[str, Any]:
    encoded = encode_rows(rows)
    columns = dict(encoded)
    if not count:
        return columns
    fast = getattr(encoded, "encodings", None) or []
    columns["length"] = [sum(mask) for mask in encoded["attention_mask"]]
    columns["truncated"] = [bool(one.overflowing) for one in fast] or [None] * len(columns["length"])  # not known
    return columns
