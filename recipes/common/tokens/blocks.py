"""Blocks of tokens: their layout, where they are cut, and a data set of them in memory."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from recipes.common.runtime.errors import Refusal

Array = numpy.ndarray


@dataclass(frozen=True)
class Layout:
    """What a block looks like: [prefix] tokens … end tokens … [pad]; a document begins with `start`, if its tokenizer
    begins it with something, and ends with `end`."""

    size: int  # tokens a block, with the prefix
    end: int
    pad: int
    prefix: int | None = None  # stands at the front of every block: [CLS] for masked models
    stride: int = (
        0  # blocks to evaluate overlap: each predicts its last `stride` tokens (0: all of them)
    )
    start: tuple[int, ...] = ()  # Llama's <s>: given, and so never predicted

    def __post_init__(self) -> None:
        if not 0 <= self.stride <= self.room:
            what = f"blocks of {self.room} tokens cannot be moved by {self.stride}"
            raise Refusal(
                what, "--eval_stride", f"choose 1 to {self.room}, or leave it out: no overlap"
            )

    @property
    def between(self) -> tuple[int, ...]:
        """What begins a document behind another one: where a text ends as it begins (OPT), one token does both."""
        return () if self.start == (self.end,) else self.start

    @property
    def room(self) -> int:
        """Tokens of the text that fit into a block."""
        return self.size - (self.prefix is not None)


class Blocks(torch.utils.data.Dataset):
    """Blocks in memory. Row i is {"input_ids", "row": i, "epoch", "context"}: `context` tokens in front are only read,
    and `epoch` is None for data that is evaluated, so that masks can be keyed by (seed, epoch, row)."""

    def __init__(self, ids: Array, starts: Array, ends: Array, layout: Layout, trains: bool):
        self.ids = numpy.asarray(ids)  # a memory map itself would be copied to the other processes
        self.starts, self.ends, self.layout = starts, ends, layout
        self._epoch = torch.zeros((), dtype=torch.int64) if trains else None
        self.tokens_per_byte = 0.0

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> dict[str, Any]:
        start, end = self.starts[row], self.ends[row]
        context = 0 if row == 0 or not self.layout.stride else int(self.ends[row - 1] - start)
        ids = framed(self.ids[start:end], self.layout)
        return {"input_ids": ids, "row": row, "epoch": self.epoch, "context": context}

    @property
    def epoch(self) -> int | None:
        """Of the pass over training data; None for data that is evaluated."""
        return None if self._epoch is None else int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass over training data; workers that persist learn it, too."""
        if self._epoch is not None:
            self._epoch.share_memory_().fill_(epoch)

    def select(self, rows: range) -> "Blocks":
        """The blocks of these rows."""
        blocks, chosen = copy.copy(self), numpy.asarray(rows)
        blocks.starts, blocks.ends = self.starts[chosen], self.ends[chosen]
        return blocks


def cut(length: int, layout: Layout) -> tuple[Array, Array]:
    """First and last (exclusive) positions of the blocks; with a stride each block ends `stride` after the one before
    and begins `room` before its end."""
    if not layout.stride:
        starts = numpy.arange(0, length, layout.room)
        return starts, numpy.minimum(starts + layout.room, length)
    steps = max(0, math.ceil((length - layout.room) / layout.stride))
    ends = numpy.minimum(layout.room + layout.stride * numpy.arange(steps + 1), length)
    return numpy.maximum(ends - layout.room, 0), ends


def framed(ids: Array, layout: Layout) -> Array:
    return ids if layout.prefix is None else numpy.concatenate([[layout.prefix], ids])
