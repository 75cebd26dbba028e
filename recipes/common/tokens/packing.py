"""Joins texts to blocks of tokens without loss: every token stands in exactly one block."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

import numpy

from recipes.common.data.limits import LIMITS, limit_of
from recipes.common.data.splits import Splits
from recipes.common.runtime import processes
from recipes.common.runtime.errors import COMPLETE, Refusal
from recipes.common.runtime.messages import is_main_process, visible
from recipes.common.tokens.blocks import Blocks, Layout, cut
from recipes.common.tokens.encoding import Tokens
from recipes.common.tokens.stream import Stream, set_steps
from recipes.common.tokens.tokenising import Encoder, prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainingArguments


class PackingFlags(Protocol):
    """Names the flags that are read here, of Arguments and of PackingArguments."""

    streaming: bool
    dataset_name: str | None
    prepared_dir: str | None
    prepare_only: bool


def _end_when_prepared(pack_splits: Callable[..., Tokens]) -> Callable[..., Tokens]:
    """Decorates a packing function: with --prepare_only it prints its counts and ends the run."""

    @wraps(pack_splits)
    def packed(
        splits: Splits,
        tokenizer: "PreTrainedTokenizerBase",
        layout: Layout,
        arguments: PackingFlags,
        training_arguments: "TrainingArguments",
    ) -> Tokens:
        tokens = pack_splits(splits, tokenizer, layout, arguments, training_arguments)
        if not arguments.prepare_only:
            return tokens
        if is_main_process():
            for name, counts in tokens.counts.items():
                rows, read, blocks = counts["rows"], counts["tokens"], counts["blocks"]
                print(f"{name:<11} {rows:,} texts, {read:,} tokens, {blocks:,} blocks")
            print(f"{'prepared':<11} {visible(arguments.prepared_dir)}")
        sys.exit(COMPLETE)

    return packed


@_end_when_prepared
@processes.once_per_node
def pack(
    splits: Splits,
    tokenizer: "PreTrainedTokenizerBase",
    layout: Layout,
    arguments: PackingFlags,
    training_arguments: "TrainingArguments",
) -> Tokens:
    """Returns the splits as Blocks, or the training split as a Stream.

    It counts documents, tokens read and tokens packed. With --prepare_only the process ends here.
    """
    tokens = Tokens()
    column = splits.texts[0]
    for name, split in splits.items():
        ends_all = name in splits.whole
        if name == "train" and arguments.streaming:
            _refuse_for_streams(arguments)
            encode = Encoder(tokenizer, layout, ends_all)
            stream = Stream(split, column, encode, layout, training_arguments.seed)
            tokens.train = stream
            is_remote = bool(arguments.dataset_name)
            tokens.counts[name] = set_steps(stream, training_arguments, is_remote)
            continue
        arrays, counts = prepared(
            split, column, tokenizer, layout, arguments, name, ends_all=ends_all
        )
        trains = name == "train"
        own = replace(layout, stride=0) if trains else layout
        starts, ends = cut(len(arrays["ids"]), own)
        blocks = Blocks(arrays["ids"], starts, ends, own, trains)
        predicted = ends - starts
        if own.stride:
            predicted = numpy.diff(ends, prepend=0)
        counts.pop("truncated")
        counts["packed"] = int(predicted.sum())
        _add(tokens, name, blocks, counts, arguments)
    return tokens


@_end_when_prepared
@processes.once_per_node
def lines(
    splits: Splits,
    tokenizer: "PreTrainedTokenizerBase",
    layout: Layout,
    arguments: PackingFlags,
    training_arguments: "TrainingArguments",
) -> Tokens:
    """Returns the splits as Blocks: every text in a block of its own, cut to the block's size.

    With --prepare_only the process ends here.
    """
    if arguments.streaming:
        what = "a stream is packed, not taken line by line"
        raise Refusal(what, "--line_by_line", "leave out one of the two flags")
    tokens = Tokens()
    column = splits.texts[0]
    for name, split in splits.items():
        arrays, counts = prepared(
            split, column, tokenizer, layout, arguments, name, ends_all=True, cut=True
        )
        ends = numpy.cumsum(arrays["lengths"])
        starts = ends - arrays["lengths"]
        blocks = Blocks(arrays["ids"], starts, ends, layout, trains=name == "train")
        counts["truncated_share"] = counts.pop("truncated") / counts["rows"]
        counts["packed"] = int(ends[-1])
        _add(tokens, name, blocks, counts, arguments)
    return tokens


def _add(
    tokens: Tokens, name: str, blocks: Blocks, counts: dict[str, Any], arguments: PackingFlags
) -> None:
    """Adds the blocks of a split, up to its limit, and its counts."""
    if not counts["bytes"]:
        what = f"the {name} data has no text"
        raise Refusal(what, f"--{name}_file", "give a text that is not empty")
    blocks.tokens_per_byte = (counts["tokens"] - counts.pop("starts")) / counts["bytes"]
    counts["blocks"] = len(blocks)
    limit = limit_of(name, arguments)
    if limit is not None and len(blocks) > limit:
        blocks = blocks.select(range(limit))
        counts["used"] = limit
    tokens.counts[name] = counts
    setattr(tokens, name, blocks)


def _refuse_for_streams(arguments: PackingFlags) -> None:
    """Refuses what a stream cannot do: be prepared, or be limited to a number of blocks."""
    if arguments.prepare_only:
        what = "a stream is tokenised while it is trained on, not before"
        raise Refusal(what, "--prepare_only, --streaming", "leave one of the two out")
    if limit_of("train", arguments) is not None:
        what = "a stream's blocks cannot be counted before they are read"
        fix = "say --max_steps N: a step takes as many blocks as the batch"
        raise Refusal(what, f"--{LIMITS['train']}", fix)
