"""Texts -> blocks of tokens that lose nothing: every token of every document stands in exactly one block."""

import copy
import json
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy
import torch
from tqdm import tqdm

from recipes.common.data.splits import LIMITS, limit_of
from recipes.common.model.tokenizer_training import as_text
from recipes.common.runtime import processes
from recipes.common.runtime.errors import COMPLETE, Refusal, is_main_process, note, visible
from recipes.common.tokens import cache
from recipes.common.tokens.encoding import Tokens
from recipes.common.tokens.positions import PositionedStream

BATCH = 1000  # rows that are read at once
CHARACTERS = 2**20  # that are tokenised together: the cores wait for each other after every batch
WINDOW = 1000  # blocks of a stream that are shuffled together
POSITION = "stream.json"
Array = numpy.ndarray


@dataclass(frozen=True)
class Layout:
    """What a block looks like: [prefix] tokens … end tokens … [pad]; a document begins with `start`, if its tokenizer
    begins it with something, and ends with `end`."""

    size: int  # tokens a block, with the prefix
    end: int
    pad: int
    prefix: int | None = None  # stands at the front of every block: [CLS] for masked models
    stride: int = 0  # blocks to evaluate overlap: each predicts its last `stride` tokens (0: all of them)
    start: tuple[int, ...] = ()  # Llama's <s>: given, and so never predicted

    def __post_init__(self) -> None:
        if not 0 <= self.stride <= self.room:
            what = f"blocks of {self.room} tokens cannot be moved by {self.stride}"
            raise Refusal(what, "--eval_stride", f"choose 1 to {self.room}, or leave it out: no overlap")

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
        ids = _framed(self.ids[start:end], self.layout)
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


def pack(splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any) -> Tokens:
    """The splits as Blocks, or the training split as a Stream; counts documents, tokens read and tokens packed."""
    return _ready(_packed(splits, tokenizer, layout, arguments, training_arguments), arguments)


@processes.once_per_node
def _packed(splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any) -> Tokens:
    tokens = Tokens()
    for name, split in splits.items():
        if name == "train" and arguments.streaming:
            _refuse_for_streams(arguments)
            encode = Encoder(tokenizer, layout, name in splits.whole)
            tokens.train = Stream(split, splits.texts[0], encode, layout, training_arguments.seed)
            tokens.counts[name] = _set_steps(tokens.train, training_arguments, is_remote=bool(arguments.dataset_name))
            continue
        ends_all = name in splits.whole
        arrays, counts = _prepared(split, splits.texts[0], tokenizer, layout, arguments, name, ends_all=ends_all)
        evaluated = layout if name != "train" else replace(layout, stride=0)
        starts, ends = _cut(len(arrays["ids"]), evaluated)
        blocks = Blocks(arrays["ids"], starts, ends, evaluated, trains=name == "train")
        step = numpy.diff(ends, prepend=0) if evaluated.stride else ends - starts
        counts.pop("truncated")
        counts["packed"] = int(step.sum())
        _add(tokens, name, blocks, counts, arguments)
    return tokens


def lines(splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any) -> Tokens:
    """Every text in a block of its own, cut to the block's size."""
    return _ready(_lines(splits, tokenizer, layout, arguments, training_arguments), arguments)


@processes.once_per_node
def _lines(splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any) -> Tokens:
    if arguments.streaming:
        raise Refusal("a stream is packed, not taken line by line", "--line_by_line", "leave out one of the two flags")
    tokens = Tokens()
    for name, split in splits.items():
        options = {"ends_all": True, "cut": True}
        arrays, counts = _prepared(split, splits.texts[0], tokenizer, layout, arguments, name, **options)
        ends = numpy.cumsum(arrays["lengths"])
        blocks = Blocks(arrays["ids"], ends - arrays["lengths"], ends, layout, trains=name == "train")
        counts |= {"truncated_share": counts.pop("truncated") / counts["rows"], "packed": int(ends[-1])}
        _add(tokens, name, blocks, counts, arguments)
    return tokens


def _add(tokens: Tokens, name: str, blocks: Blocks, counts: dict[str, Any], arguments: Any) -> None:
    if not counts["bytes"]:
        raise Refusal(f"the {name} data has no text", f"--{name}_file", "give a text that is not empty")
    blocks.tokens_per_byte = (counts["tokens"] - counts.pop("starts")) / counts["bytes"]
    counts["blocks"] = len(blocks)
    limit = limit_of(name, arguments)
    if limit is not None and len(blocks) > limit:
        blocks, counts["used"] = blocks.select(range(limit)), limit
    tokens.counts[name] = counts
    setattr(tokens, name, blocks)


def _ready(tokens: Tokens, arguments: Any) -> Tokens:
    """The tokens to train on; with --prepare_only the process ends here."""
    if arguments.prepare_only:
        if not is_main_process():
            sys.exit(COMPLETE)
        for name, counts in tokens.counts.items():
            print(f"{name:<11} {counts['rows']:,} texts, {counts['tokens']:,} tokens, {counts['blocks']:,} blocks")
        print(f"{'prepared':<11} {visible(arguments.prepared_dir)}")
        sys.exit(COMPLETE)
    return tokens


def _refuse_for_streams(arguments: Any) -> None:
    if arguments.prepare_only:
        fix = "leave one of the two out"
        raise Refusal("a stream is tokenised while it is trained on, not before", "--prepare_only, --streaming", fix)
    if limit_of("train", arguments) is not None:
        fix = "say --max_steps N: a step takes as many blocks as the batch"
        raise Refusal("nobody knows a stream's blocks before they are read", f"--{LIMITS['train']}", fix)


class Encoder:
    """Texts -> ids without special tokens but those that a document begins and ends with; a text that ends in a line
    break goes on in the next one, and does not end (`ends_all`: every text does). The texts are tokenised at once, by
    all cores; the lists of ids are made as they are asked for, by the core that asks."""

    def __init__(self, tokenizer: Any, layout: Layout, ends_all: bool = False):
        self.tokenizer, self.layout, self.ends_all = tokenizer, layout, ends_all

    def __call__(self, texts: list[str], begins: bool = True) -> Iterator[list[int]]:
        """Each text's ids; the first text `begins` a document, or goes on with the one before."""
        ended = [self.ends(text) for text in texts]
        framed = zip(self._split(texts), [begins, *ended], ended, strict=False)
        start, end = self.layout.between, [self.layout.end]
        return ([*(start if first else ()), *ids, *(end if last else ())] for ids, first, last in framed)

    def rows(self, batches: Iterable[list[str]], begins: bool = True) -> Iterator[tuple[str, list[int]]]:
        """Each text with its ids, batch after batch."""
        for texts in batches:
            yield from zip(texts, self(texts, begins), strict=True)
            begins = self.ends(texts[-1])

    def ends(self, text: str) -> bool:
        """Whether the document ends with this text."""
        return self.ends_all or not text.endswith("\n")

    def _split(self, texts: list[str]) -> Iterator[list[int]]:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            return iter(self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"])
        fast.no_truncation()
        fast.no_padding()
        return map(attrgetter("ids"), fast.encode_batch_fast(texts, add_special_tokens=False))


def _prepared(
    split: Any,
    column: str,
    tokenizer: Any,
    layout: Layout,
    arguments: Any,
    name: str,
    ends_all: bool = False,
    cut: bool = False,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The ids of a split, one document after the other, and their lengths, by memory map; and what was read."""
    made_of: dict[str, Any] = {}
    if arguments.prepared_dir:
        made_of = {"texts": cache.content(_texts(split, column)), "tokenizer": as_text(tokenizer), "end": layout.end}
        made_of |= {"start": layout.start}
        made_of |= {"ends_all": True} if ends_all else {}
        made_of |= {"room": layout.room} if cut else {}

    def write(folder: Path) -> dict[str, Any]:
        return _tokenise(_batches(split, column, name), Encoder(tokenizer, layout, ends_all), layout, cut, folder)

    return cache.arrays(arguments.prepared_dir, made_of, write)


def _tokenise(batches: Iterable[list[str]], encode: Encoder, layout: Layout, cut: bool, folder: Path) -> dict[str, Any]:
    """Writes ids and lengths as they come, so that memory holds two batches; `cut`: documents to the block's size."""
    counts, last = _no_counts() | {"starts": 0}, None
    start = [*layout.between]
    with (folder / "ids.bin").open("wb") as ids, (folder / "lengths.bin").open("wb") as lengths:
        for texts, rows in _encoded(batches, encode):
            found = list(rows)
            if counts["rows"] == 0 and not start:
                found[0] = [*layout.start, *found[0]]
            counts["starts"] += sum(row[: len(start)] == start for row in found) * len(start)
            for text, row in zip(texts, found, strict=True):
                _count(counts, text, row, cut and len(row) > layout.room)
            if cut:
                found = [row if len(row) <= layout.room else [*row[: layout.room - 1], layout.end] for row in found]
            numpy.fromiter(chain.from_iterable(found), dtype=cache.TYPE).tofile(ids)
            numpy.fromiter(map(len, found), dtype=cache.TYPE).tofile(lengths)
            last = next((row[-1] for row in reversed(found) if row), last)  # a line break may be no token
        if last != layout.end:
            numpy.asarray([layout.end], dtype=cache.TYPE).tofile(ids)
            counts["tokens"] += 1
    return counts


def _encoded(batches: Iterable[list[str]], encode: Encoder) -> Iterator[tuple[list[str], Iterator[list[int]]]]:
    """Each batch with its ids; the next one is tokenised while this one's lists are made and written."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[list[str], Future]] = deque()
        begins = True
        for texts in batches:
            waiting.append((texts, pool.submit(encode, texts, begins)))
            begins = encode.ends(texts[-1])
            if len(waiting) > 1:
                texts, coming = waiting.popleft()
                yield texts, coming.result()
        for texts, coming in waiting:
            yield texts, coming.result()


def _no_counts() -> dict[str, Any]:
    return {"rows": 0, "tokens": 0, "bytes": 0, "truncated": 0}


def _count(counts: dict[str, Any], text: str, ids: list[int], truncated: bool = False) -> None:
    counts["rows"] += 1
    counts["tokens"] += len(ids)
    counts["bytes"] += len(text.encode())
    counts["truncated"] += truncated


def _batches(split: Any, column: str, name: str) -> Iterator[list[str]]:
    total = len(split) if hasattr(split, "__len__") else None
    bar = tqdm(
        total=total, desc=f"tokenising {name}", unit=" texts", delay=2, leave=False, disable=not is_main_process()
    )
    batch, size = [], 0
    for text in _texts(split, column):
        batch.append(text)
        size += len(text) + 1
        if size >= CHARACTERS:
            yield batch
            bar.update(len(batch))
            batch, size = [], 0
    if batch:
        yield batch
    bar.close()


def _texts(split: Any, column: str) -> Iterator[str]:
    return chain.from_iterable(rows[column] for rows in split.iter(BATCH))


def _cut(length: int, layout: Layout) -> tuple[Array, Array]:
    """First and last (exclusive) positions of the blocks; with a stride each block ends `stride` after the one before
    and begins `room` before its end."""
    if not layout.stride:
        starts = numpy.arange(0, length, layout.room)
        return starts, numpy.minimum(starts + layout.room, length)
    steps = max(0, math.ceil((length - layout.room) / layout.stride))
    ends = numpy.minimum(layout.room + layout.stride * numpy.arange(steps + 1), length)
    return numpy.maximum(ends - layout.room, 0), ends


def _framed(ids: Array, layout: Layout) -> Array:
    return ids if layout.prefix is None else numpy.concatenate([[layout.prefix], ids])


class Stream(PositionedStream):
    """Blocks of a data set that is read while it is trained on, without end: epoch after epoch, in one order.

    The blocks of each window of 1,000 are shuffled by (seed, window). What is left of the last document when a pass
    ends begins the next one. `position` after a number of blocks is small: the document that is being cut, what was
    carried into it, and how many blocks of it were given; `go_to` it costs no tokenising but that document's.
    """

    def __init__(self, rows: Any, column: str, encode: Encoder, layout: Layout, seed: int):
        self.rows, self.column, self.encode, self.layout, self.seed = rows, column, encode, layout, seed
        first = [] if layout.between else [*layout.start]
        self.marks: dict[int, dict[str, Any]] = {0: {"epoch": 0, "row": 0, "carried": first}}  # where windows begin
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
                    framed = _framed(ids[block * room : (block + 1) * room], self.layout)
                    yield {"input_ids": framed, "row": number, "epoch": epoch, "context": 0}
                    number += 1
                    if number % WINDOW == 0:
                        here = {"epoch": epoch, "row": row, "begins": begins, "carried": carried, "blocks": block + 1}
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
        return None if self.number is None else Fraction(self.number, self.layout.room * blocks * accumulated)

    def count(self) -> dict[str, Any]:
        """Rows, tokens and bytes of one pass."""
        counts = _no_counts()
        for text, ids in self.encode.rows(_batches(self.rows, self.column, "train")):
            _count(counts, text, ids)
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
        numbers = [position["blocks"], mark["epoch"], mark["row"], mark.get("blocks", 0), *mark["carried"]]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{POSITION} holds what is no position")
        if max(mark["carried"], default=0) >= vocabulary:
            raise ValueError(f"{POSITION} holds the token {max(mark['carried'])}")
        self.go_to(position)


def _set_steps(stream: Stream, training_arguments: Any, is_remote: bool) -> dict[str, Any]:
    """--max_steps of a stream follows from one pass that counts its tokens, unless the user gave it; where something is
    done after every epoch, the pass is counted all the same, but for one from the Hub, whose end may be far."""
    flags = training_arguments
    by_epochs = "epoch" in (flags.eval_strategy, flags.save_strategy, flags.logging_strategy)
    if flags.max_steps > 0 and (is_remote or not by_epochs):
        return {}
    why = "the end of every epoch" if flags.max_steps > 0 else "the number of steps: --max_steps saves this pass"
    note(f"counting the tokens of the training data for {why}")
    counts = stream.count()
    stream.number = counts["tokens"]
    steps = stream.steps(flags.train_batch_size * flags.world_size, flags.gradient_accumulation_steps)
    if flags.max_steps > 0:
        return counts
    if counts["tokens"] * flags.num_train_epochs < stream.layout.room:
        raise Refusal("the training data does not fill one block", "--train_file", "give more text, or smaller blocks")
    flags.max_steps = math.ceil(steps * Fraction(str(flags.num_train_epochs)))
    return counts
