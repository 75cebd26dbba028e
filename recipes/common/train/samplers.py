"""In which order rows are trained on and evaluated: rows of like length together, for less padding.

An order follows from (seed, epoch) alone: the same on every number of processes, and after a resume. Trainer's own
groups of like length depend on the split of the batch, and after a resume on luck.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from recipes.common.data.labels import MISSING
from recipes.common.runtime.errors import Refusal

PARTS, FEWEST, MOST = (
    8,
    8,
    50,
)  # rows are sorted by length within an eighth of an epoch, of 8 to 50 steps
Array = numpy.ndarray


class Shuffled(Sampler):
    """Row positions of a training set in random order, the same for every split of the batch.

    `step` rows are trained on together, `rows` of them in a micro-batch; with `lengths` those are of like length. The
    first step holds the longest row, so that a lack of memory shows at once. A data set that counts epochs is told:
    under accelerate on several processes nobody else would.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int,
        lengths: Sequence[int] | None = None,
        step: int = 1,
        rows: int = 1,
    ):
        self.dataset, self.seed, self.step, self.rows = dataset, seed, step, rows
        self.lengths = None if lengths is None else numpy.asarray(lengths)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        generator = numpy.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.dataset))
        return iter((order if self.lengths is None else self._grouped(order, generator)).tolist())

    def _grouped(self, order: Array, generator: numpy.random.Generator) -> Array:
        size = min(max(self.steps // PARTS, FEWEST), MOST) * self.step
        windows = [order[start : start + size] for start in range(0, len(order), size)]
        order = numpy.concatenate(
            [rows[numpy.argsort(-self.lengths[rows], kind="stable")] for rows in windows]
        )
        whole = len(order) - len(order) % self.step
        steps = generator.permutation(order[:whole].reshape(-1, self.step))
        if len(steps):
            longest = self.lengths[steps].max(axis=1).argmax()
            steps[[0, longest]] = steps[[longest, 0]]
        return numpy.concatenate([steps.ravel(), order[whole:]])

    def batches(self) -> list[Array]:
        """The row positions of every process's micro-batches."""
        order = numpy.fromiter(self, dtype=numpy.int64)
        return numpy.split(order, range(self.rows, len(order), self.rows))

    def rows_of_step(self, number: int) -> list[int]:
        """Row positions of a step, counted from 0 over all epochs, within the epoch that is set."""
        first = number % max(1, -(-len(self) // self.step)) * self.step
        return list(self)[first : first + self.step]

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self) // self.step)


class TokenBatches(BatchRebalanceSampler):
    """Batches of one process with at most `budget` tokens, padding counted: many short rows, or few long ones.

    A row that is longer makes a batch of its own. Their number is the same in every epoch; which rows of one length
    meet, and in which order the batches come, is random. `processes` x `accumulated` batches make a step. A subclass
    of Trainer's sampler of batches because Trainer takes no other.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int,
        lengths: Sequence[int],
        budget: int,
        accumulated: int,
        processes: int,
        rank: int,
    ):
        self.dataset, self.seed, self.lengths = dataset, seed, numpy.asarray(lengths)
        self.accumulated, self.processes, self.rank, self.epoch = accumulated, processes, rank, 0
        self.batch_size = 1  # accelerate asks for one before it is told that batches differ
        if len(self.lengths) < processes:
            fix = "give more rows, or leave the flag out"
            raise Refusal(
                f"{processes} processes share {len(self.lengths)} rows", "--tokens_per_batch", fix
            )
        self.sizes = self._sizes(-numpy.sort(-self.lengths), budget)

    def _sizes(self, lengths: Array, budget: int) -> list[int]:
        """Rows of each batch, of rows by falling length; as many batches for every process."""
        sizes, first = [], 0
        while first < len(lengths):
            sizes.append(min(max(1, budget // max(1, int(lengths[first]))), len(lengths) - first))
            first += sizes[-1]
        while len(sizes) % self.processes:
            largest = int(numpy.argmax(sizes))
            half = sizes[largest] // 2
            if not half:
                what = f"{len(lengths)} rows make {len(sizes)} batches, which {self.processes} processes cannot share"
                raise Refusal(
                    what,
                    "--tokens_per_batch",
                    "raise it, or start a number of processes that divides them",
                )
            sizes[largest : largest + 1] = [half, sizes[largest] - half]
        return sizes

    def __len__(self) -> int:
        return len(self.sizes) // self.processes

    def __iter__(self) -> Iterator[list[int]]:
        return iter([rows.tolist() for rows in self.batches()[self.rank :: self.processes]])

    def batches(self) -> list[Array]:
        """The row positions of every process's batches."""
        generator = numpy.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        order = order[numpy.argsort(-self.lengths[order], kind="stable")]
        batches = numpy.split(order, numpy.cumsum(self.sizes)[:-1])
        return [batches[position] for position in generator.permutation(len(batches))]

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self) // self.accumulated)

    def rows_of_step(self, number: int) -> list[int]:
        """Row positions of a step, counted from 0 over all epochs, within the epoch that is set."""
        together = self.processes * self.accumulated
        first = number % self.steps * together
        return numpy.concatenate(self.batches()[first : first + together]).tolist()


class EvaluationBatches(BatchRebalanceSampler):
    """Batches of one process to evaluate on, of rows by falling length, with less padding and as few as memory allows.

    The first holds the `rows` longest rows; later ones as many tokens, and so more rows. `written` tokens are generated
    for each row beside. All processes get as many rows of each batch: at the end rows repeat, which `in_order` drops.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        processes: int,
        rank: int,
        written: Sequence[int] | int = 0,
    ):
        lengths = numpy.asarray(lengths)
        self.order, self.processes, self.rank = longest_first(lengths), processes, rank
        self.batch_size = 1  # accelerate asks for one before it is told that batches differ
        self.sizes = self._sizes((lengths + written)[self.order], rows)

    def _sizes(self, tokens: Array, rows: int) -> list[int]:
        """Rows of each batch, on every process."""
        sizes, first = [], 0
        while first < len(tokens):
            most = max(rows, rows * int(tokens[0]) // max(1, int(tokens[first])))
            sizes.append(min(most, -(-(len(tokens) - first) // self.processes)))
            first += sizes[-1] * self.processes
        return sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        filled = numpy.resize(self.order, sum(self.sizes) * self.processes)
        together = numpy.split(filled, numpy.cumsum(self.sizes)[:-1] * self.processes)
        return (numpy.split(rows, self.processes)[self.rank].tolist() for rows in together)


def lengths_of(dataset: Any, column: str = "length") -> Array | None:
    """The length of every row in tokens; None where that is not known. `width` is that of its longer side, source or
    target, with the padding that it brings along."""
    if column not in (getattr(dataset, "column_names", None) or []):
        return None
    return numpy.asarray(dataset[column][:])  # at once: a Column gives its rows one by one


def longest_first(lengths: Array) -> Array:
    """Row positions by falling length (equal lengths stay in order)."""
    return numpy.argsort(-lengths, kind="stable")


def in_order(dataset: Any, arrays: Any) -> Any:
    """Arrays whose rows came in EvaluationBatches, or a tuple of such, with their rows in the order of the data set."""
    if isinstance(arrays, tuple):
        return tuple(in_order(dataset, array) for array in arrays)
    lengths = lengths_of(dataset)
    if lengths is None or arrays is None:
        return arrays
    return arrays[: len(lengths)][numpy.argsort(longest_first(lengths))]


def for_evaluation(dataset: Any, arguments: Any, answers: Any = None) -> EvaluationBatches | None:
    """Batches by length for TrainingArguments and, where texts are generated, the generation.Answers; None where the
    lengths are not known, and where predictions are to stay in batches."""
    lengths = lengths_of(dataset)
    if lengths is None or not arguments.eval_do_concat_batches:
        return None
    written = 0 if answers is None else answers.limits(lengths)
    rows = arguments.eval_batch_size * (1 if answers is None else answers.together)
    return EvaluationBatches(lengths, rows, arguments.world_size, arguments.process_index, written)


def for_training(
    dataset: Any, arguments: Any, tokens_per_batch: int | None = None, rows: int | None = None
) -> Shuffled | TokenBatches | None:
    """The order that TrainingArguments ask for, in batches of so many `rows` where it is not as many as they say; None
    where it is Trainer's own affair (streams, other strategies)."""
    strategy = arguments.train_sampling_strategy
    lengths = lengths_of(dataset)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    processes, accumulated = arguments.world_size, arguments.gradient_accumulation_steps
    if tokens_per_batch and lengths is None:
        fix = "leave the flag out: --per_device_train_batch_size says how many rows or blocks there are"
        raise Refusal("the lengths of a stream's rows are not known", "--tokens_per_batch", fix)
    if tokens_per_batch:
        widths = lengths_of(dataset, "width")
        return TokenBatches(
            dataset, seed, widths, tokens_per_batch, accumulated, processes, arguments.process_index
        )
    if strategy not in ("random", "group_by_length") or not hasattr(dataset, "__len__"):
        return None
    rows = rows or arguments.train_batch_size
    lengths = lengths if strategy == "group_by_length" else None
    return Shuffled(dataset, seed, lengths, rows * accumulated * processes, rows)


def padding_share(order: Shuffled | TokenBatches, lengths: Sequence[int]) -> float:
    """Of the tokens of an epoch's batches, each padded to its longest row, the share that is padding."""
    lengths = numpy.asarray(lengths)
    batches = [lengths[rows] for rows in order.batches() if len(rows)]
    return 1 - sum(map(numpy.sum, batches)) / max(
        1, sum(len(rows) * rows.max() for rows in batches)
    )


def unlabel_repeats(batch: dict[str, Any], rows: int, first: int) -> None:
    """An epoch's last batches are filled with rows of its beginning where processes would get fewer than others: those
    rows lose their labels, so that every row of an epoch counts once.

    `rows` of the last batches of all processes are the epoch's own (0: all), and this process's begins at `first`.
    """
    if rows and "labels" in batch:
        labels = batch["labels"]
        labels[max(0, rows - first) :] = float("nan") if labels.is_floating_point() else MISSING
