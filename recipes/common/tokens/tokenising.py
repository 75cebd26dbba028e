"""Texts -> ids, batch by batch, on all cores, as files that are read by memory map."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy
from tqdm import tqdm

from recipes.common.model.tokenizer_training import as_text
from recipes.common.runtime.messages import is_main_process
from recipes.common.tokens import cache
from recipes.common.tokens.blocks import Array, Layout

BATCH = 1000  # rows that are read at once
CHARACTERS = 2**20  # that are tokenised together: the cores wait for each other after every batch


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
        return (
            [*(start if first else ()), *ids, *(end if last else ())] for ids, first, last in framed
        )

    def rows(
        self, batches: Iterable[list[str]], begins: bool = True
    ) -> Iterator[tuple[str, list[int]]]:
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
            return iter(
                self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)[
                    "input_ids"
                ]
            )
        fast.no_truncation()
        fast.no_padding()
        return map(attrgetter("ids"), fast.encode_batch_fast(texts, add_special_tokens=False))


def prepared(
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
        made_of = {
            "texts": cache.content(texts_of(split, column)),
            "tokenizer": as_text(tokenizer),
            "end": layout.end,
        }
        made_of |= {"start": layout.start}
        made_of |= {"ends_all": True} if ends_all else {}
        made_of |= {"room": layout.room} if cut else {}

    def write(folder: Path) -> dict[str, Any]:
        return _tokenise(
            batches(split, column, name), Encoder(tokenizer, layout, ends_all), layout, cut, folder
        )

    return cache.arrays(arguments.prepared_dir, made_of, write)


def _tokenise(
    batches: Iterable[list[str]], encode: Encoder, layout: Layout, cut: bool, folder: Path
) -> dict[str, Any]:
    """Writes ids and lengths as they come, so that memory holds two batches; `cut`: documents to the block's size."""
    counts, last = no_counts() | {"starts": 0}, None
    start = [*layout.between]
    with (folder / "ids.bin").open("wb") as ids, (folder / "lengths.bin").open("wb") as lengths:
        for texts, rows in _encoded(batches, encode):
            found = list(rows)
            if counts["rows"] == 0 and not start:
                found[0] = [*layout.start, *found[0]]
            counts["starts"] += sum(row[: len(start)] == start for row in found) * len(start)
            for text, row in zip(texts, found, strict=True):
                count(counts, text, row, cut and len(row) > layout.room)
            if cut:
                found = [
                    row if len(row) <= layout.room else [*row[: layout.room - 1], layout.end]
                    for row in found
                ]
            numpy.fromiter(chain.from_iterable(found), dtype=cache.TYPE).tofile(ids)
            numpy.fromiter(map(len, found), dtype=cache.TYPE).tofile(lengths)
            last = next(
                (row[-1] for row in reversed(found) if row), last
            )  # a line break may be no token
        if last != layout.end:
            numpy.asarray([layout.end], dtype=cache.TYPE).tofile(ids)
            counts["tokens"] += 1
    return counts


def _encoded(
    batches: Iterable[list[str]], encode: Encoder
) -> Iterator[tuple[list[str], Iterator[list[int]]]]:
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


def no_counts() -> dict[str, Any]:
    return {"rows": 0, "tokens": 0, "bytes": 0, "truncated": 0}


def count(counts: dict[str, Any], text: str, ids: list[int], truncated: bool = False) -> None:
    counts["rows"] += 1
    counts["tokens"] += len(ids)
    counts["bytes"] += len(text.encode())
    counts["truncated"] += truncated


def batches(split: Any, column: str, name: str) -> Iterator[list[str]]:
    total = len(split) if hasattr(split, "__len__") else None
    bar = tqdm(
        total=total,
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


def texts_of(split: Any, column: str) -> Iterator[str]:
    return chain.from_iterable(rows[column] for rows in split.iter(BATCH))
