"""Lays out blocks of tokens, finds where they are cut, and holds them in memory."""

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
    """Describes a block: [prefix] tokens … end tokens … [pad].

    A document begins with `start`, if its tokenizer begins texts with something, and ends with
    `end`.
    """

    size: int  # tokens per block, with the prefix
    end: int
    pad: int
    prefix: int | None = None  # stands at the front of every block: [CLS] for masked models
    # Blocks to evaluate overlap: each predicts its last `stride` tokens (0: all of its tokens).
    stride: int = 0
    start: tuple[int, ...] = ()  # Llama's <s>: given, and so never predicted

    def __post_init__(self) -> None:
        if not 0 <= self.stride <= self.room:
            what = f"blocks of {self.room} tokens cannot be moved by {self.stride}"
            fix = f"choose 1 to {self.room}, or leave it out: no overlap"
            raise Refusal(what, "--eval_stride", fix)

    @property
    def between(self) -> tuple[int, ...]:
        """Returns the tokens that begin a document behind another one.

        Where a text begins with the token that it ends with (OPT), one token does both.
        """
        if self.start == (self.end,):
            return ()
        return self.start

    @property
    def room(self) -> int:
        """Returns how many tokens of the text fit into a block."""
        return self.size - (self.prefix is not None)


class Blocks(torch.utils.data.Dataset):
    """Holds blocks in memory, as a data set.

    Row i is {"input_ids", "row": i, "epoch", "context"}. The first `context` tokens are only read,
    not predicted. `epoch` is None for data that is evaluated. The random numbers of a mask follow
    from (seed, epoch, row).
    """

    def __init__(self, ids: Array, starts: Array, ends: Array, layout: Layout, trains: bool):
        self.ids = numpy.asarray(ids)  # a memory map itself would be copied to the other processes
        self.starts = starts
        self.ends = ends
        self.layout = layout
        self._epoch = torch.zeros((), dtype=torch.int64) if trains else None
        self.tokens_per_byte = 0.0

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> dict[str, Any]:
        start, end = self.starts[row], self.ends[row]
        context = 0
        if row != 0 and self.layout.stride:
            context = int(self.ends[row - 1] - start)
        ids = framed(self.ids[start:end], self.layout)
        return {"input_ids": ids, "row": row, "epoch": self.epoch, "context": context}

    @property
    def epoch(self) -> int | None:
        """Returns the epoch of training data; None for data that is evaluated."""
        if self._epoch is None:
            return None
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of training data; the data loader calls it before each pass.

        Workers that persist see it, too: it lies in shared memory.
        """
        if self._epoch is not None:
            self._epoch.share_memory_().fill_(epoch)

    def select(self, rows: range) -> "Blocks":
        """Returns the blocks of these rows."""
        blocks = copy.copy(self)
        chosen = numpy.asarray(rows)
        blocks.starts = self.starts[chosen]
        blocks.ends = self.ends[chosen]
        return blocks


def cut(length: int, layout: Layout) -> tuple[Array, Array]:
    """Returns the first and the last (exclusive) positions of the blocks of `length` tokens.

    With a stride each block ends `stride` tokens after the one before, and begins `room` tokens
    before its end.
    """
    if not layout.stride:
        starts = numpy.arange(0, length, layout.room)
        return starts, numpy.minimum(starts + layout.room, length)
    steps = max(0, math.ceil((length - layout.room) / layout.stride))
    ends = numpy.minimum(layout.room + layout.stride * numpy.arange(steps + 1), length)
    return numpy.maximum(ends - layout.room, 0), ends


def framed(ids: Array, layout: Layout) -> Array:
    """Returns the ids of a block with its prefix, if the layout has one."""
    if layout.prefix is None:
        return ids
    return numpy.concatenate([[layout.prefix], ids])
