"""Tokenises texts batch by batch, on all cores, into files that are read by memory map."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from tqdm import tqdm

from recipes.common.config.flags import PackingArguments
from recipes.common.model.tokenizer_training import as_text
from recipes.common.runtime.messages import is_main_process
from recipes.common.tokens import cache
from recipes.common.tokens.blocks import Array, Layout

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

BATCH = 1000  # rows that are read at once
CHARACTERS = 2**20  # are tokenised together: the cores wait for each other after every batch


class Encoder:
    """Turns texts into ids, with the tokens that a document begins and ends with, and no other.

    A text that ends in a line break continues in the next one, and does not end the document; with
    `ends_all` every text ends it. The texts are tokenised at once, by all cores. The lists of ids
    are made one by one, by the core that reads them.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", layout: Layout, ends_all: bool = False
    ):
        self.tokenizer = tokenizer
        self.layout = layout
        self.ends_all = ends_all

    def __call__(self, texts: list[str], begins: bool = True) -> Iterator[list[int]]:
        """Returns each text's ids. The first text `begins` a document, or continues one."""
        ended = [self.ends(text) for text in texts]
        return self._framed(self._split(texts), [begins, *ended], ended)

    def _framed(
        self, rows: Iterator[list[int]], begins: list[bool], ends: list[bool]
    ) -> Iterator[list[int]]:
        start, end = self.layout.between, (self.layout.end,)
        for ids, first, last in zip(rows, begins, ends, strict=False):
            before, after = (), ()
            if first:
                before = start
            if last:
                after = end
            yield [*before, *ids, *after]

    def rows(
        self, batches: Iterable[list[str]], begins: bool = True
    ) -> Iterator[tuple[str, list[int]]]:
        """Yields each text with its ids, batch after batch."""
        for texts in batches:
            yield from zip(texts, self(texts, begins), strict=True)
            begins = self.ends(texts[-1])

    def ends(self, text: str) -> bool:
        """Whether the document ends with this text."""
        return self.ends_all or not text.endswith("\n")

    def _split(self, texts: list[str]) -> Iterator[list[int]]:
        """Tokenises the texts; the lists of a fast tokenizer's ids are made as they are read."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            options = {"add_special_tokens": False, "return_attention_mask": False}
            return iter(self.tokenizer(texts, **options)["input_ids"])
        fast.no_truncation()
        fast.no_padding()
        return map(attrgetter("ids"), fast.encode_batch_fast(texts, add_special_tokens=False))


def prepared(
    split: "Dataset",
    column: str,
    tokenizer: "PreTrainedTokenizerBase",
    layout: Layout,
    arguments: PackingArguments,
    name: str,
    ends_all: bool = False,
    cut: bool = False,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns the arrays `ids` and `lengths` of a split, by memory map, and its counts.

    `ids` holds one document after the other. With `cut` a document is cut to the block's size.
    """
    encode = Encoder(tokenizer, layout, ends_all)
    made_of: dict[str, Any] = {}
    if arguments.prepared_dir:
        made_of = {
            "texts": cache.content(texts_of(split, column)),
            "tokenizer": as_text(tokenizer),
            "end": layout.end,
            "start": layout.start,
        }
        if ends_all:
            made_of["ends_all"] = True
        if cut:
            made_of["room"] = layout.room

    def write(folder: Path) -> dict[str, Any]:
        return _tokenise(batches(split, column, name), encode, layout, cut, folder)

    return cache.arrays(arguments.prepared_dir, made_of, write)


def _tokenise(
    batches: Iterable[list[str]], encode: Encoder, layout: Layout, cut: bool, folder: Path
) -> dict[str, Any]:
    """Writes ids and lengths as they come, so that memory holds two batches; returns the counts."""
    counts, last = no_counts() | {"starts": 0}, None
    start = [*layout.between]
    with (folder / "ids.bin").open("wb") as ids, (folder / "lengths.bin").open("wb") as lengths:
        for texts, rows in _encoded(batches, encode):
            found = list(rows)
            if counts["rows"] == 0 and not start:
                found[0] = [*layout.start, *found[0]]
            counts["starts"] += _number_that_begin(found, start) * len(start)
            for text, row in zip(texts, found, strict=True):
                count(counts, text, row, cut and len(row) > layout.room)
            if cut:
                found = [_cut(row, layout) for row in found]
            numpy.fromiter(chain.from_iterable(found), dtype=cache.TYPE).tofile(ids)
            numpy.fromiter(map(len, found), dtype=cache.TYPE).tofile(lengths)
            last = _last_token(found, last)
        if last != layout.end:
            numpy.asarray([layout.end], dtype=cache.TYPE).tofile(ids)
            counts["tokens"] += 1
    return counts


def _number_that_begin(rows: list[list[int]], start: list[int]) -> int:
    return sum(row[: len(start)] == start for row in rows)


def _cut(row: list[int], layout: Layout) -> list[int]:
    """Returns the row, cut to the room of a block; a cut row ends with the end token."""
    if len(row) <= layout.room:
        return row
    return [*row[: layout.room - 1], layout.end]


def _last_token(rows: list[list[int]], before: int | None) -> int | None:
    """Returns the last token of the rows, or the one `before` where they have none.

    A row has none where it is a line break, and the tokenizer makes no token of that.
    """
    for row in reversed(rows):
        if row:
            return row[-1]
    return before


def _encoded(
    batches: Iterable[list[str]], encode: Encoder
) -> Iterator[tuple[list[str], Iterator[list[int]]]]:
    """Yields each batch with its ids.

    The next batch is tokenised while the lists of this one are made and written.
    """
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


def no_counts() -> dict[str, Any]:
    """Returns counts that begin at 0."""
    return {"rows": 0, "tokens": 0, "bytes": 0, "truncated": 0}


def count(counts: dict[str, Any], text: str, ids: list[int], truncated: bool = False) -> None:
    """Adds a row to the counts."""
    counts["rows"] += 1
    counts["tokens"] += len(ids)
    counts["bytes"] += len(text.encode())
    counts["truncated"] += truncated


def batches(split: "Dataset | IterableDataset", column: str, name: str) -> Iterator[list[str]]:
    """Yields the texts in batches of about CHARACTERS; a bar shows how many are done."""
    bar = tqdm(
        total=len(split) if hasattr(split, "__len__") else None,
        desc=f"tokenising {name}",
        unit=" texts",
        delay=2,
        leave=False,
        disable=not is_main_process(),
    )
    batch, size = [], 0
    for text in texts_of(split, column):
        batch.append(text)
        size += len(text) + 1
        if size >= CHARACTERS:
            yield batch
            bar.update(len(batch))
            batch, size = [], 0
    if batch:
        yield batch
    bar.close()


def texts_of(split: "Dataset | IterableDataset", column: str) -> Iterator[str]:
    """Returns the texts of a split, which is read in batches."""
    return chain.from_iterable(rows[column] for rows in split.iter(BATCH))
