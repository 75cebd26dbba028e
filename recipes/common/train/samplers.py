"""Decides in which order rows are trained on and evaluated.

Rows of similar length come together, for less padding. An order follows from (seed, epoch) alone:
it is the same on every number of processes, and after a resume. Trainer's own groups of similar
length depend on the split of the batch, and on chance after a resume.
"""

import math
from collections.abc import Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Protocol

import numpy
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from recipes.common.config import step_sizes
from recipes.common.data.labels import MISSING
from recipes.common.runtime.errors import Refusal

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Rows are sorted by length within an eighth of an epoch, of 8 to 50 steps.
WINDOWS_PER_EPOCH = 8
FEWEST_STEPS = 8
MOST_STEPS = 50
Array = numpy.ndarray


class WritesTexts(Protocol):
    """Says how long an evaluation's texts may be, as generation.TextGeneration does."""

    batches_at_once: int

    def limits(self, lengths: Array) -> Array:
        """Returns the most tokens that may be generated for texts of these lengths."""


class Shuffled(Sampler):
    """Yields row positions of a training set in random order, the same for every split of a batch.

    `step` rows are trained on together, `rows` of them in a micro-batch. With `lengths` the rows of
    a step are of similar length. The first step holds the longest row, so that a lack of memory
    shows at once. The epoch is passed on to a data set that counts epochs: under accelerate on
    several processes nothing else does so.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int,
        lengths: Sequence[int] | None = None,
        step: int = 1,
        rows: int = 1,
    ):
        self.dataset = dataset
        self.seed = seed
        self.step = step
        self.rows = rows
        self.lengths = None if lengths is None else numpy.asarray(lengths)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        generator = numpy.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.dataset))
        if self.lengths is not None:
            order = self._grouped(order, generator)
        return iter(order.tolist())

    def _grouped(self, order: Array, generator: numpy.random.Generator) -> Array:
        """Returns the rows with those of like length in one step, and the steps in random order."""
        size = min(max(self.steps // WINDOWS_PER_EPOCH, FEWEST_STEPS), MOST_STEPS) * self.step
        windows = []
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            windows.append(rows[longest_first(self.lengths[rows])])
        order = numpy.concatenate(windows)
        whole = len(order) - len(order) % self.step
        steps = generator.permutation(order[:whole].reshape(-1, self.step))
        if len(steps):
            longest = self.lengths[steps].max(axis=1).argmax()
            steps[[0, longest]] = steps[[longest, 0]]
        return numpy.concatenate([steps.ravel(), order[whole:]])

    def batches(self) -> list[Array]:
        """Returns the row positions of every process's micro-batches."""
        order = numpy.fromiter(self, dtype=numpy.int64)
        return numpy.split(order, range(self.rows, len(order), self.rows))

    def rows_of_step(self, number: int) -> list[int]:
        """Returns the row positions of a step, within the epoch that is set.

        Steps are counted from 0 over all epochs.
        """
        first = number % max(1, self.steps) * self.step
        return list(self)[first : first + self.step]

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; the data loader calls it before each pass."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    @property
    def steps(self) -> int:
        """Returns the optimizer steps of an epoch."""
        return math.ceil(len(self) / self.step)


class TokenBatches(BatchRebalanceSampler):
    """Yields the batches of one process: many short rows, or few long ones.

    A batch has at most `budget` tokens, padding counted; a row that is longer makes a batch of its
    own. The number of batches is the same in every epoch. Which rows of equal length share a batch,
    and the order of the batches, are random. `processes` x `accumulated` batches make a step. It is
    a subclass of Trainer's sampler of batches because Trainer takes no other.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int,
        lengths: Sequence[int],
        budget: int,
        accumulated: int,
        processes: int,
        rank: int,
    ):
        self.dataset = dataset
        self.seed = seed
        self.lengths = numpy.asarray(lengths)
        self.accumulated = accumulated
        self.processes = processes
        self.rank = rank
        self.epoch = 0
        self.batch_size = 1  # accelerate reads one before it learns that batches differ
        if len(self.lengths) < processes:
            what = f"{processes} processes share {len(self.lengths)} rows"
            raise Refusal(what, "--tokens_per_batch", "give more rows, or leave the flag out")
        self.sizes = self._sizes(-numpy.sort(-self.lengths), budget)

    def _sizes(self, lengths: Array, budget: int) -> list[int]:
        """Returns the number of rows of each batch, for rows by falling length.

        Every process gets the same number of batches.
        """
        sizes, first = [], 0
        while first < len(lengths):
            fitting = max(1, budget // max(1, int(lengths[first])))
            sizes.append(min(fitting, len(lengths) - first))
            first += sizes[-1]
        while len(sizes) % self.processes:
            largest = int(numpy.argmax(sizes))
            half = sizes[largest] // 2
            if not half:
                shown = f"{len(lengths)} rows make {len(sizes)} batches"
                what = f"{shown}, which {self.processes} processes cannot share"
                fix = "raise it, or start a number of processes that divides them"
                raise Refusal(what, "--tokens_per_batch", fix)
            sizes[largest : largest + 1] = [half, sizes[largest] - half]
        return sizes

    def __len__(self) -> int:
        return len(self.sizes) // self.processes

    def __iter__(self) -> Iterator[list[int]]:
        own = self.batches()[self.rank :: self.processes]
        return iter([rows.tolist() for rows in own])

    def batches(self) -> list[Array]:
        """Returns the row positions of every process's batches."""
        generator = numpy.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        order = order[longest_first(self.lengths[order])]
        batches = numpy.split(order, numpy.cumsum(self.sizes)[:-1])
        return [batches[position] for position in generator.permutation(len(batches))]

    @property
    def steps(self) -> int:
        """Returns the optimizer steps of an epoch."""
        return math.ceil(len(self) / self.accumulated)

    def rows_of_step(self, number: int) -> list[int]:
        """Returns the row positions of a step, within the epoch that is set.

        Steps are counted from 0 over all epochs.
        """
        together = self.processes * self.accumulated
        first = number % self.steps * together
        return numpy.concatenate(self.batches()[first : first + together]).tolist()


class EvaluationBatches(BatchRebalanceSampler):
    """Yields the batches of one process to evaluate on, of rows by falling length.

    Thus there is less padding, and there are as few batches as memory allows. The first batch holds
    the `rows` longest rows. Later ones hold the same number of tokens, and so more rows. `written`
    tokens are generated for each row in addition. Each process gets the same number of rows per
    batch. Repeated rows fill the last batch, and `in_order` drops them.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        processes: int,
        rank: int,
        written: Array | int = 0,
    ):
        lengths = numpy.asarray(lengths)
        self.order = longest_first(lengths)
        self.processes = processes
        self.rank = rank
        self.batch_size = 1  # accelerate reads one before it learns that batches differ
        self.sizes = self._sizes((lengths + written)[self.order], rows)

    def _sizes(self, tokens: Array, rows: int) -> list[int]:
        """Returns the number of rows of each batch, on every process."""
        sizes, first = [], 0
        while first < len(tokens):
            fitting = max(rows, rows * int(tokens[0]) // max(1, int(tokens[first])))
            left = math.ceil((len(tokens) - first) / self.processes)
            sizes.append(min(fitting, left))
            first += sizes[-1] * self.processes
        return sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        filled = numpy.resize(self.order, sum(self.sizes) * self.processes)
        ends = numpy.cumsum(self.sizes)[:-1] * self.processes
        for rows in numpy.split(filled, ends):
            yield numpy.split(rows, self.processes)[self.rank].tolist()


def lengths_of(dataset: object, column: str = "length") -> Array | None:
    """Returns the length of every row in tokens; None where it is unknown.

    The column `width` has the length of a row's longer side, source or target, with its padding.
    """
    if column not in (getattr(dataset, "column_names", None) or []):
        return None
    return numpy.asarray(dataset[column][:])  # at once: a Column gives its rows one by one


def longest_first(lengths: Array) -> Array:
    """Returns row positions by falling length; equal lengths stay in order."""
    return numpy.argsort(-lengths, kind="stable")


def in_order(dataset: object, arrays: Array | tuple | None) -> Array | tuple | None:
    """Returns an array, or a tuple of arrays, with its rows in the order of the data set.

    The rows came in EvaluationBatches.
    """
    if isinstance(arrays, tuple):
        return tuple(in_order(dataset, array) for array in arrays)
    lengths = lengths_of(dataset)
    if lengths is None or arrays is None:
        return arrays
    return arrays[: len(lengths)][numpy.argsort(longest_first(lengths))]


def for_evaluation(
    dataset: object, arguments: "TrainingArguments", generation: WritesTexts | None = None
) -> EvaluationBatches | None:
    """Returns batches by length to evaluate on; with `generation` texts are generated for them.

    Returns None where the lengths are unknown, and where predictions are to stay in batches.
    """
    lengths = lengths_of(dataset)
    if lengths is None or not arguments.eval_do_concat_batches:
        return None
    rows, written = arguments.eval_batch_size, 0
    if generation is not None:
        rows *= generation.batches_at_once
        written = generation.limits(lengths)
    return EvaluationBatches(lengths, rows, arguments.world_size, arguments.process_index, written)


def for_training(
    dataset: object,
    arguments: "TrainingArguments",
    tokens_per_batch: int | None = None,
    rows: int | None = None,
) -> Shuffled | TokenBatches | None:
    """Returns the order that TrainingArguments request, in batches of `rows` rows.

    Without `rows` the batch size is theirs. Returns None where Trainer decides the order itself:
    for streams, and for other strategies.
    """
    strategy = arguments.train_sampling_strategy
    lengths = lengths_of(dataset)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    processes, accumulated = arguments.world_size, arguments.gradient_accumulation_steps
    if tokens_per_batch and lengths is None:
        what = "the lengths of a stream's rows are not known"
        fix = (
            "leave the flag out: "
            "--per_device_train_batch_size says how many rows or blocks there are"
        )
        raise Refusal(what, "--tokens_per_batch", fix)
    if tokens_per_batch:
        widths = lengths_of(dataset, "width")
        rank = arguments.process_index
        return TokenBatches(dataset, seed, widths, tokens_per_batch, accumulated, processes, rank)
    if strategy not in ("random", "group_by_length") or not hasattr(dataset, "__len__"):
        return None
    if strategy == "random":
        lengths = None
    rows = rows or arguments.train_batch_size
    step = step_sizes.rows_per_step(rows, accumulated, processes)
    return Shuffled(dataset, seed, lengths, step, rows)


def padding_share(sampler: Shuffled | TokenBatches, lengths: Sequence[int]) -> float:
    """Returns which share of the tokens of an epoch's batches is padding.

    Each batch is padded to its longest row.
    """
    lengths = numpy.asarray(lengths)
    tokens, padded = 0, 0
    for rows in sampler.batches():
        if len(rows):
            tokens += lengths[rows].sum()
            padded += len(rows) * lengths[rows].max()
    return 1 - tokens / max(1, padded)


def unlabel_repeats(batch: dict[str, torch.Tensor], rows: int, first: int) -> None:
    """Removes the labels of rows that repeat at the end of an epoch: every row counts once.

    The last batches are filled with rows of the epoch's beginning where processes would get fewer
    rows than others. Of the rows of the last batches of all processes, `rows` are the epoch's own
    (0: all). This process's batch begins at `first`.
    """
    if not rows or "labels" not in batch:
        return
    labels = batch["labels"]
    missing = float("nan") if labels.is_floating_point() else MISSING
    labels[max(0, rows - first) :] = missing
