"""Texts -> blocks of tokens that lose nothing: every token of every document stands in exactly one block."""

import sys
from dataclasses import replace
from typing import Any

import numpy

from recipes.common.data.splits import LIMITS, limit_of
from recipes.common.runtime import processes
from recipes.common.runtime.errors import COMPLETE, Refusal
from recipes.common.runtime.messages import is_main_process, visible
from recipes.common.tokens.blocks import Blocks, Layout, cut
from recipes.common.tokens.encoding import Tokens
from recipes.common.tokens.stream import Stream, set_steps
from recipes.common.tokens.tokenising import Encoder, prepared


def pack(
    splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any
) -> Tokens:
    """The splits as Blocks, or the training split as a Stream; counts documents, tokens read and tokens packed."""
    return _ready(_packed(splits, tokenizer, layout, arguments, training_arguments), arguments)


@processes.once_per_node
def _packed(
    splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any
) -> Tokens:
    tokens = Tokens()
    for name, split in splits.items():
        if name == "train" and arguments.streaming:
            _refuse_for_streams(arguments)
            encode = Encoder(tokenizer, layout, name in splits.whole)
            tokens.train = Stream(split, splits.texts[0], encode, layout, training_arguments.seed)
            tokens.counts[name] = set_steps(
                tokens.train, training_arguments, is_remote=bool(arguments.dataset_name)
            )
            continue
        ends_all = name in splits.whole
        arrays, counts = prepared(
            split, splits.texts[0], tokenizer, layout, arguments, name, ends_all=ends_all
        )
        evaluated = layout if name != "train" else replace(layout, stride=0)
        starts, ends = cut(len(arrays["ids"]), evaluated)
        blocks = Blocks(arrays["ids"], starts, ends, evaluated, trains=name == "train")
        step = numpy.diff(ends, prepend=0) if evaluated.stride else ends - starts
        counts.pop("truncated")
        counts["packed"] = int(step.sum())
        _add(tokens, name, blocks, counts, arguments)
    return tokens


def lines(
    splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any
) -> Tokens:
    """Every text in a block of its own, cut to the block's size."""
    return _ready(_lines(splits, tokenizer, layout, arguments, training_arguments), arguments)


@processes.once_per_node
def _lines(
    splits: Any, tokenizer: Any, layout: Layout, arguments: Any, training_arguments: Any
) -> Tokens:
    if arguments.streaming:
        raise Refusal(
            "a stream is packed, not taken line by line",
            "--line_by_line",
            "leave out one of the two flags",
        )
    tokens = Tokens()
    for name, split in splits.items():
        options = {"ends_all": True, "cut": True}
        arrays, counts = prepared(
            split, splits.texts[0], tokenizer, layout, arguments, name, **options
        )
        ends = numpy.cumsum(arrays["lengths"])
        blocks = Blocks(
            arrays["ids"], ends - arrays["lengths"], ends, layout, trains=name == "train"
        )
        counts |= {
            "truncated_share": counts.pop("truncated") / counts["rows"],
            "packed": int(ends[-1]),
        }
        _add(tokens, name, blocks, counts, arguments)
    return tokens


def _add(tokens: Tokens, name: str, blocks: Blocks, counts: dict[str, Any], arguments: Any) -> None:
    if not counts["bytes"]:
        raise Refusal(
            f"the {name} data has no text", f"--{name}_file", "give a text that is not empty"
        )
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
            print(
                f"{name:<11} {counts['rows']:,} texts, {counts['tokens']:,} tokens, {counts['blocks']:,} blocks"
            )
        print(f"{'prepared':<11} {visible(arguments.prepared_dir)}")
        sys.exit(COMPLETE)
    return tokens


def _refuse_for_streams(arguments: Any) -> None:
    if arguments.prepare_only:
        fix = "leave one of the two out"
        raise Refusal(
            "a stream is tokenised while it is trained on, not before",
            "--prepare_only, --streaming",
            fix,
        )
    if limit_of("train", arguments) is not None:
        fix = "say --max_steps N: a step takes as many blocks as the batch"
        raise Refusal(
            "nobody knows a stream's blocks before they are read", f"--{LIMITS['train']}", fix
        )
