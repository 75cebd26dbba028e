"""Reads, tokenises and packs a data set while it is trained on."""

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch

from recipes.common.config import step_sizes, training_settings
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note
from recipes.common.tokens import tokenising
from recipes.common.tokens.blocks import Array, Layout, framed
from recipes.common.tokens.positions import PositionedStream
from recipes.common.tokens.tokenising import BATCH, Encoder

if TYPE_CHECKING:
    from datasets import IterableDataset
    from transformers import TrainingArguments

WINDOW = 1000  # blocks of a stream that are shuffled together
POSITION = "stream.json"
Mark = dict[str, Any]  # a document (epoch, row), and where in it a window begins


class Stream(PositionedStream):
    """Streams blocks without an end while a model trains: epoch after epoch, in one order.

    The blocks of each window of 1,000 are shuffled by (seed, window). The rest of the last document
    of a pass begins the next pass.

    The `position` after a number of blocks is small: it names the document that is being cut, the
    tokens that were carried into it, and how many of its blocks came before. `load_position`
    tokenises only that document again.
    """

    def __init__(
        self,
        rows: "IterableDataset",
        column: str,
        encode: Encoder,
        layout: Layout,
        seed: int,
    ):
        self.rows = rows
        self.column = column
        self.encode = encode
        self.layout = layout
        self.seed = seed
        carried = [] if layout.between else [*layout.start]
        # Where windows begin.
        self.marks: dict[int, Mark] = {0: {"epoch": 0, "row": 0, "carried": carried}}
        self.number: int | None = None  # of tokens, where they were counted
        self.first = 0  # the block to begin with
        self._reported = torch.multiprocessing.SimpleQueue()  # the marks of a loader's worker

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        if worker and worker.id:  # one worker reads, in order; the others would repeat it
            return
        window, skip = divmod(self.first, WINDOW)
        blocks = self._blocks(self.marks[window], window)
        while chunk := list(islice(blocks, WINDOW)):
            order = numpy.random.default_rng([self.seed, window]).permutation(len(chunk))
            for position in order[skip:]:
                yield chunk[position]
            window += 1
            skip = 0

    def _blocks(self, mark: Mark, window: int) -> Iterator[dict[str, Any]]:
        """Yields the blocks from the beginning of a window on, and marks where windows begin."""
        room = self.layout.room
        number = window * WINDOW
        passed_over = mark.get("blocks", 0)
        for here, ids in self._documents(mark):
            for block in range(passed_over, len(ids) // room):
                cut = ids[block * room : (block + 1) * room]
                yield {
                    "input_ids": framed(cut, self.layout),
                    "row": number,
                    "epoch": here["epoch"],
                    "context": 0,
                }
                number += 1
                if number % WINDOW == 0:
                    self._mark(number // WINDOW, {**here, "blocks": block + 1})
            passed_over = 0

    def _documents(self, mark: Mark) -> Iterator[tuple[Mark, Array]]:
        """Yields the documents from a mark on, without end: where each one is, and its ids.

        The ids begin with those that the document before left over (`carried`).
        """
        room, carried = self.layout.room, mark["carried"]
        epoch, row, begins = mark["epoch"], mark["row"], mark.get("begins", True)
        while True:
            for text, found in self.encode.rows(self._texts(row), begins):
                ids = numpy.asarray([*carried, *found], dtype=numpy.int32)
                yield {"epoch": epoch, "row": row, "begins": begins, "carried": carried}, ids
                row += 1
                carried = ids[len(ids) // room * room :].tolist()
                begins = self.encode.ends(text)
            epoch, row, begins = epoch + 1, 0, True

    def _mark(self, window: int, mark: Mark) -> None:
        self.marks[window] = mark
        if torch.utils.data.get_worker_info():
            self._reported.put((window, mark))

    def collect(self) -> None:
        """Takes over the marks that a loader's worker, a process of its own, has reported."""
        while not self._reported.empty():
            window, mark = self._reported.get()
            self.marks[window] = mark

    def _texts(self, row: int) -> Iterator[list[str]]:
        """Yields batches of texts from a row on, up to the end of a pass."""
        rows = islice(iter(self.rows), row, None)
        while texts := [found[self.column] for found in islice(rows, BATCH)]:
            yield texts

    def steps(self, blocks: int, accumulated: int) -> Fraction | None:
        """Returns the steps of an epoch with `blocks` blocks per batch.

        It is a fraction: the next epoch begins in the middle of a block. None where the tokens have
        not been counted.
        """
        if self.number is None:
            return None
        return Fraction(self.number, self.layout.room * blocks * accumulated)

    def count(self) -> dict[str, Any]:
        """Returns the numbers of rows, tokens and bytes of one pass."""
        counts = tokenising.no_counts()
        for text, ids in self.encode.rows(tokenising.batches(self.rows, self.column, "train")):
            tokenising.count(counts, text, ids)
        counts.pop("truncated")
        return counts

    def position(self, blocks: int) -> dict[str, Any]:
        """Returns where the stream continues after a training on `blocks` blocks."""
        self.collect()  # a step may have read beyond what was reported when it began
        return {"blocks": blocks, "mark": self.marks[blocks // WINDOW]}

    def _go_to(self, position: dict[str, Any]) -> None:
        """Begins the next pass at a `position`."""
        self.first = position["blocks"]
        self.marks[self.first // WINDOW] = position["mark"]

    def save_position(self, folder: Path, blocks: int) -> None:
        """Writes the position after `blocks` blocks into a checkpoint."""
        (folder / POSITION).write_text(json.dumps(self.position(blocks)), encoding="utf-8")

    def load_position(self, folder: Path, blocks: int, vocabulary: int) -> None:
        """Continues at the position that a checkpoint holds.

        Raises an error where the checkpoint holds no position, or an id beyond the vocabulary.
        """
        position = json.loads((folder / POSITION).read_text(encoding="utf-8"))
        mark = position["mark"]
        carried = mark["carried"]
        numbers = [position["blocks"], mark["epoch"], mark["row"], mark.get("blocks", 0), *carried]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{POSITION} holds no position of a stream")
        if max(carried, default=0) >= vocabulary:
            raise ValueError(f"{POSITION} holds the token {max(carried)}")
        self._go_to(position)


def set_steps(
    stream: Stream, training_arguments: "TrainingArguments", is_remote: bool
) -> dict[str, Any]:
    """Sets --max_steps, unless it is given, from one pass that counts the stream's tokens.

    Also counts where a strategy is `epoch`. Does not count a stream from the Hub that has
    --max_steps: its end may be far. Returns the counts of the pass.
    """
    flags = training_arguments
    is_given = flags.max_steps > 0
    by_epochs = "epoch" in (flags.eval_strategy, flags.save_strategy, flags.logging_strategy)
    if is_given and (is_remote or not by_epochs):
        return {}
    why = "the number of steps: --max_steps saves this pass"
    if is_given:
        why = "the end of every epoch"
    note(f"counting the tokens of the training data for {why}")
    counts = stream.count()
    stream.number = counts["tokens"]
    if is_given:
        return counts
    if counts["tokens"] * flags.num_train_epochs < stream.layout.room:
        what = "the training data does not fill one block"
        raise Refusal(what, "--train_file", "give more text, or smaller blocks")
    blocks = step_sizes.rows_per_batch(flags)
    steps = stream.steps(blocks, flags.gradient_accumulation_steps)
    training_settings.set_steps(flags, steps)
    return counts
