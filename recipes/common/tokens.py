"""Text -> tokens: runs a recipe's encode function over every split and counts what was cut off."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets

from recipes.common.args import Arguments
from recipes.common.data import Splits
from recipes.common.errors import is_main_process

BATCH = 1000
MANY_ROWS = 50_000  # take more than two seconds, and so get a bar


@dataclass
class Tokens:
    """The splits as token ids, ready for Trainer, and for each its rows, tokens and the share of truncated rows."""

    train: datasets.Dataset | datasets.IterableDataset | None = None
    validation: datasets.Dataset | None = None
    test: datasets.Dataset | None = None
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)


def encode(splits: Splits, encode_rows: Callable[[dict], Any], arguments: Arguments) -> Tokens:
    """The splits with `encode_rows` (rows of a batch -> BatchEncoding) applied; row ids and labels are kept."""
    tokens = Tokens()
    rows = sum(len(split) for _, split in splits.items() if isinstance(split, datasets.Dataset))
    show = datasets.enable_progress_bars if rows > MANY_ROWS and is_main_process() else datasets.disable_progress_bars
    show()
    for name, split in splits.items():
        if isinstance(split, datasets.IterableDataset):
            drop = [*splits.texts, "row_id"]
            tokens.train = split.map(partial(_batch, encode_rows, count=False), batched=True, remove_columns=drop)
            continue
        encoded = split.map(
            partial(_batch, encode_rows),
            batched=True,
            batch_size=BATCH,
            num_proc=arguments.preprocessing_num_workers,
            remove_columns=[column for column in split.column_names if column not in ("row_id", "labels")],
            desc=f"tokenising {name}",
        )
        tokens.counts[name] = {
            "rows": len(encoded),
            "tokens": sum(encoded["length"]),
            "truncated_share": sum(encoded["truncated"]) / max(len(encoded), 1),
        }
        setattr(tokens, name, encoded.remove_columns("truncated"))
    return tokens


def _batch(encode_rows: Callable[[dict], Any], rows: dict, count: bool = True) -> dict[str, Any]:
    encoded = encode_rows(rows)
    columns = dict(encoded)
    if not count:
        return columns
    fast = getattr(encoded, "encodings", None) or []
    columns["length"] = [sum(mask) for mask in encoded["attention_mask"]]
    columns["truncated"] = [bool(one.overflowing) for one in fast] or [False] * len(columns["length"])
    return columns
