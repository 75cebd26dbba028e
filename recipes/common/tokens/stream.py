"""Blocks of a data set that is tokenised while it is trained on."""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
import torch

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note
from recipes.common.tokens import tokenising
from recipes.common.tokens.blocks import Layout, framed
from recipes.common.tokens.positions import PositionedStream
from recipes.common.tokens.tokenising import BATCH, Encoder

WINDOW = 1000  # blocks of a stream that are shuffled together
POSITION = "stream.json"


class Stream(PositionedStream):
    """Blocks of a data set that is read while it is trained on, without end: epoch after epoch, in one order.

    The blocks of each window of 1,000 are shuffled by (seed, window). What is left of the last document when a pass
    ends begins the next one. `position` after a number of blocks is small: the document that is being cut, what was
    carried into it, and how many blocks of it were given; `go_to` it costs no tokenising but that document's.
    """

    def __init__(self, rows: Any, column: str, encode: Encoder, layout: Layout, seed: int):
        self.rows, self.column, self.encode, self.layout, self.seed = (
            rows,
            column,
            encode,
            layout,
            seed,
        )
        first = [] if layout.between else [*layout.start]
        self.marks: dict[int, dict[str, Any]] = {
            0: {"epoch": 0, "row": 0, "carried": first}
        }  # where windows begin
        self.number: int | None = None  # of tokens, where they were counted
        self.first = 0  # the block to begin with
        self._reported = torch.multiprocessing.SimpleQueue()  # marks that a loader's worker came by

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
            window, skip = window + 1, 0

    def _blocks(self, mark: dict[str, Any], window: int) -> Iterator[dict[str, Any]]:
        number, carried, passed_over = window * WINDOW, mark["carried"], mark.get("blocks", 0)
        room, epoch, row = self.layout.room, mark["epoch"], mark["row"]
        begins = mark.get("begins", True)
        while True:
            for text, found in self.encode.rows(self._texts(row), begins):
                ids = numpy.asarray([*carried, *found], dtype=numpy.int32)
                whole = len(ids) // room
                for block in range(passed_over, whole):
                    cut = ids[block * room : (block + 1) * room]
                    yield {
                        "input_ids": framed(cut, self.layout),
                        "row": number,
                        "epoch": epoch,
                        "context": 0,
                    }
                    number += 1
                    if number % WINDOW == 0:
                        here = {
                            "epoch": epoch,
                            "row": row,
                            "begins": begins,
                            "carried": carried,
                            "blocks": block + 1,
                        }
                        self._mark(number // WINDOW, here)
                row, carried, passed_over = row + 1, ids[whole * room :].tolist(), 0
                begins = self.encode.ends(text)
            epoch, row, begins = epoch + 1, 0, True

    def _mark(self, window: int, mark: dict[str, Any]) -> None:
        self.marks[window] = mark
        if torch.utils.data.get_worker_info():
            self._reported.put((window, mark))

    def collect(self) -> None:
        """Takes over what a loader's worker, which reads in a process of its own, reported."""
        while not self._reported.empty():
            window, mark = self._reported.get()
            self.marks[window] = mark

    def _texts(self, row: int) -> Iterator[list[str]]:
        rows = islice(iter(self.rows), row, None)
        while texts := [found[self.column] for found in islice(rows, BATCH)]:
            yield texts

    def steps(self, blocks: int, accumulated: int) -> Fraction | None:
        """Steps of an epoch of so many blocks a batch: a fraction, for the next one begins in mid-block; None where
        nobody has counted the tokens."""
        return (
            None
            if self.number is None
            else Fraction(self.number, self.layout.room * blocks * accumulated)
        )

    def count(self) -> dict[str, Any]:
        """Rows, tokens and bytes of one pass."""
        counts = tokenising.no_counts()
        for text, ids in self.encode.rows(tokenising.batches(self.rows, self.column, "train")):
            tokenising.count(counts, text, ids)
        counts.pop("truncated")
        return counts

    def position(self, blocks: int) -> dict[str, Any]:
        """Where the stream goes on after so many blocks were trained on."""
        self.collect()  # a step may have read beyond what was reported when it began
        return {"blocks": blocks, "mark": self.marks[blocks // WINDOW]}

    def go_to(self, position: dict[str, Any]) -> None:
        """Begins the next pass at a `position`."""
        self.first = position["blocks"]
        self.marks[self.first // WINDOW] = position["mark"]

    def save_position(self, folder: Path, blocks: int) -> None:
        """Writes the position after so many blocks into a checkpoint."""
        (folder / POSITION).write_text(json.dumps(self.position(blocks)), encoding="utf-8")

    def load_position(self, folder: Path, blocks: int, vocabulary: int) -> None:
        """Continues at the position that a checkpoint holds; raises where that is none, or has ids beyond the
        vocabulary."""
        position = json.loads((folder / POSITION).read_text(encoding="utf-8"))
        mark = position["mark"]
        numbers = [
            position["blocks"],
            mark["epoch"],
            mark["row"],
            mark.get("blocks", 0),
            *mark["carried"],
        ]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{POSITION} holds what is no position")
        if max(mark["carried"], default=0) >= vocabulary:
            raise ValueError(f"{POSITION} holds the token {max(mark['carried'])}")
        self.go_to(position)


def set_steps(stream: Stream, training_arguments: Any, is_remote: bool) -> dict[str, Any]:
    """--max_steps of a stream follows from one pass that counts its tokens, unless the user gave it; where something is
    done after every epoch, the pass is counted all the same, but for one from the Hub, whose end may be far."""
    flags = training_arguments
    by_epochs = "epoch" in (flags.eval_strategy, flags.save_strategy, flags.logging_strategy)
    if flags.max_steps > 0 and (is_remote or not by_epochs):
        return {}
    why = (
        "the end of every epoch"
        if flags.max_steps > 0
        else "the number of steps: --max_steps saves this pass"
    )
    note(f"counting the tokens of the training data for {why}")
    counts = stream.count()
    stream.number = counts["tokens"]
    steps = stream.steps(
        flags.train_batch_size * flags.world_size, flags.gradient_accumulation_steps
    )
    if flags.max_steps > 0:
        return counts
    if counts["tokens"] * flags.num_train_epochs < stream.layout.room:
        raise Refusal(
            "the training data does not fill one block",
            "--train_file",
            "give more text, or smaller blocks",
        )
    flags.max_steps = math.ceil(steps * Fraction(str(flags.num_train_epochs)))
    return counts
