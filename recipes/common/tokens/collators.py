"""Blocks -> batches: padding, labels, and masks whose random numbers are keyed by seed, epoch and row.

Trainer's own masks come from the global random state: they differ at every evaluation and after a resume in
mid-epoch. Here row 7 of epoch 2 gets the same mask however the run got there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from recipes.common.data.labels import MISSING
from recipes.common.model.languages import UNSPACED
from recipes.common.model.loading import end_of_text
from recipes.common.runtime.errors import Refusal

# How byte-level BPE writes the first bytes of Chinese and Japanese characters (0xE3 to 0xE9) and of their wide forms.
FIRST_BYTES = "ãäåæçèéï"
EVALUATED = 0.15  # the share that is masked for evaluation, whatever the training rate: scores stay comparable
Array = numpy.ndarray


@dataclass
class MaskedBlocks:
    """Rows of Blocks -> input_ids, labels and, where a row is padded, attention_mask [batch, length]; labels are -100
    where nothing is masked. (With a mask of ones, GPUs would take a slower attention.)

    Of the chosen tokens 80 % become the mask token, 10 % a random one, 10 % stay (Devlin et al. 2019, section 3.1).
    With `whole_words` a word's pieces are masked together. Rows to evaluate are masked once: same key, 15 %, 80/10/10.
    """

    tokenizer: Any
    seed: int
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_words: bool = False
    pad_to: int | None = None
    begins: Array = field(init=False)

    def __post_init__(self) -> None:
        if self.tokenizer.mask_token_id is None:
            fix = "choose a masked model's tokenizer (BERT, RoBERTa, …), or say --special_tokens mask_token=TOKEN"
            raise Refusal("the tokenizer has no mask token", "--tokenizer_name", fix)
        for flag, share in (
            ("mlm_probability", self.probability),
            ("mask_replace_prob", self.mask_share),
        ):
            if not 0 < share <= 1:
                raise Refusal(
                    f"--{flag} is {share}", f"--{flag}", "give a share above 0 and up to 1"
                )
        if not 0 <= self.random_share <= 1 - self.mask_share + 1e-9:
            what = f"--mask_replace_prob {self.mask_share} and --random_replace_prob {self.random_share} exceed 1"
            raise Refusal(
                what,
                "--random_replace_prob",
                "give shares that sum to at most 1; the rest stays as it is",
            )
        self.special = numpy.zeros(len(self.tokenizer), dtype=bool)
        self.special[self.tokenizer.all_special_ids] = True
        self.begins = word_beginnings(self.tokenizer) if self.whole_words else None
        self.ordinary = numpy.flatnonzero(~self.special)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        masked = [self._mask(row) for row in rows]
        inputs = _padded([ids for ids, _ in masked], self.tokenizer.pad_token_id, self.pad_to)
        labels = _padded([labels for _, labels in masked], MISSING, self.pad_to)
        real = _padded([numpy.ones(len(ids)) for ids, _ in masked], 0, self.pad_to)
        mask = {} if real.all() else {"attention_mask": real}
        return {"input_ids": inputs, "labels": labels} | mask

    def _mask(self, row: dict[str, Any]) -> tuple[Array, Array]:
        ids = numpy.asarray(row["input_ids"], dtype=numpy.int64)
        if row["epoch"] is None:
            key, probability, shares = [0, 0, row["row"]], EVALUATED, (0.8, 0.1)
        else:
            key, probability = [self.seed, row["epoch"], row["row"]], self.probability
            shares = (self.mask_share, self.random_share)
        generator = numpy.random.default_rng(key)
        chosen = self._choose(ids, probability, generator)
        draw = generator.random(len(ids))
        inputs = numpy.where(chosen & (draw < shares[0]), self.tokenizer.mask_token_id, ids)
        random = chosen & (draw >= shares[0]) & (draw < sum(shares))
        inputs[random] = generator.choice(self.ordinary, size=int(random.sum()))
        return inputs, numpy.where(chosen, ids, MISSING)

    def _choose(self, ids: Array, probability: float, generator: numpy.random.Generator) -> Array:
        draws = generator.random(len(ids))
        if self.begins is not None:
            words = numpy.cumsum(self.begins[ids] | self.special[ids])
            draws = draws[words - words[0]] if len(ids) else draws
        return (draws < probability) & ~self.special[ids]


@dataclass
class CausalBlocks:
    """Rows of Blocks -> input_ids and labels [batch, length]: labels are the inputs (the loss shifts them), -100 for
    padding, for the first token of a block, for what stands there as context only, and for what each document is given
    to begin with (`start`): nobody needs to predict Llama's <s>.

    With `isolate`, positions begin at 0 in every document: attention then stays inside it (transformers reads the
    borders off position_ids), and no document's first token is predicted from the one before.
    """

    pad: int
    end: int
    isolate: bool = False
    pad_to: int | None = None
    start: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.isolate and self.end in self.start:
            what = "the tokenizer begins and ends a text with the same token: nobody sees where a document begins"
            raise Refusal(
                what, "--packing_isolation", "leave the flag out, or use another tokenizer"
            )

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [numpy.asarray(row["input_ids"], dtype=numpy.int64) for row in rows]
        labels = [
            _without(row, max(1, context["context"]))
            for row, context in zip(ids, rows, strict=True)
        ]
        given = [token for token in self.start if token != self.end]
        for row in labels if given else ():
            row[numpy.isin(row, given)] = MISSING
        batch = {"input_ids": _padded(ids, self.pad, self.pad_to)}
        if self.isolate:
            positions = [positions_in_documents(row, self.end) for row in ids]
            for row, place in zip(labels, positions, strict=True):
                row[place == 0] = MISSING
            batch["position_ids"] = _padded(positions, 0, self.pad_to)
        return batch | {"labels": _padded(labels, MISSING, self.pad_to)}


@dataclass
class Pairs:
    """Rows of input_ids, attention_mask and labels -> padded batches with decoder_input_ids, the labels shifted right.

    The labels go to the loss, not to the model, so that it cannot shift them itself; M2M100 and NLLB offer no method
    to do so, and DataCollatorForSeq2Seq then leaves the decoder without input. mBART shifts the last token of an answer
    to its front, and fails where there is none: a row without an answer has one there until it is shifted.
    """

    tokenizer: Any
    model: torch.nn.Module
    ignore_padding: bool = True

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        value = MISSING if self.ignore_padding else self.tokenizer.pad_token_id
        unanswered = torch.tensor([list(row["labels"]) == [MISSING] for row in rows])
        if unanswered.any():
            end = {"labels": [end_of_text(self.tokenizer)]}
            rows = [
                {**row, **end} if none else row for row, none in zip(rows, unanswered, strict=True)
            ]
        batch = DataCollatorForSeq2Seq(self.tokenizer, model=self.model, label_pad_token_id=value)(
            rows
        )
        batch["labels"][unanswered] = MISSING
        if "decoder_input_ids" not in batch:
            config = self.model.config
            start = torch.full_like(batch["labels"][:, :1], config.decoder_start_token_id)
            shifted = torch.cat([start, batch["labels"][:, :-1]], dim=1)
            batch["decoder_input_ids"] = shifted.masked_fill(
                shifted == MISSING, config.pad_token_id
            )
        return batch


def never_empty(collate: Any, tokenizer: Any) -> Any:
    """The collator, for whose rows an empty text is one token: GPT-2's tokenizer makes none of it, and no model reads
    a batch without columns. Other tokenizers add special tokens to an empty text; with them nothing changes."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or tokenizer("")["input_ids"]:
        return collate
    return _NeverEmpty(collate, _blank(tokenizer))


@dataclass
class _NeverEmpty:
    collate: Any
    token: int

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        one = {"input_ids": [self.token], "attention_mask": [1], "token_type_ids": [0]}
        empty = [not len(row.get("input_ids", one["input_ids"])) for row in rows]
        if any(empty):
            filled = [{name: one.get(name, value) for name, value in row.items()} for row in rows]
            rows = [
                new if none else row for row, new, none in zip(rows, filled, empty, strict=True)
            ]
        return self.collate(rows)


def never_unanswered(labels: torch.Tensor, config: Any) -> torch.Tensor:
    """The labels, for shifting: mBART moves a row's last one to its front, and fails where there is none."""
    labels = labels.clone()
    labels[labels.eq(MISSING).all(1), 0] = config.eos_token_id
    return labels


def _blank(tokenizer: Any) -> int:
    """A token that says nothing, and is not the one that pads, or attention and classifier would pass over it."""
    special = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.sep_token_id,
        tokenizer.unk_token_id,
    )
    own = [token for token in special if token not in (None, tokenizer.pad_token_id)]
    return next(
        iter(own or tokenizer(" ", add_special_tokens=False)["input_ids"]), tokenizer.pad_token_id
    )


def positions_in_documents(ids: Array, end: int) -> Array:
    """0, 1, 2, … within every document; a document ends with the token `end`."""
    place = numpy.arange(len(ids))
    begins = numpy.concatenate([[True], ids[:-1] == end])
    return place - numpy.maximum.accumulate(numpy.where(begins, place, 0))


def word_beginnings(tokenizer: Any) -> Array:
    """For every token whether it begins a word: by WordPiece's ##, byte-level BPE's Ġ or Unigram's ▁; a character of a
    script without spaces does so, too."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    fast = getattr(tokenizer, "backend_tokenizer", None)  # other vocabularies hold Markdown's ##
    if (
        type(fast.model).__name__ == "WordPiece"
        if fast
        else any(token.startswith("##") for token in tokens)
    ):
        return numpy.asarray([not token.startswith("##") for token in tokens])
    marks = tuple(mark for mark in "Ġ▁" if any(token.startswith(mark) for token in tokens))
    if not marks:
        fix = "leave the flag out, or use a WordPiece, byte-level BPE or Unigram tokenizer"
        raise Refusal("the tokenizer does not show where words begin", "--whole_word_mask", fix)
    firsts = (*marks, "Ċ", *(FIRST_BYTES if "Ġ" in marks else ""))
    return numpy.asarray(
        [token.startswith(firsts) or bool(UNSPACED.match(token)) for token in tokens]
    )


def _without(ids: Array, context: int) -> Array:
    labels = ids.copy()
    labels[:context] = MISSING
    return labels


def _padded(rows: list[Array], value: int, length: int | None) -> torch.Tensor:
    size = max(length or 0, *(len(row) for row in rows))
    padded = numpy.full((len(rows), size), value, dtype=numpy.int64)
    for position, row in enumerate(rows):
        padded[position, : len(row)] = row
    return torch.from_numpy(padded)
