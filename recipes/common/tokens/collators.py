"""Builds batches of rows: padding, labels, and masks that follow from seed, epoch and row.

Trainer's own masks come from the global random state: they differ at every evaluation and after a
resume in mid-epoch. Here row 7 of epoch 2 gets the same mask however the run got there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy
import torch
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from recipes.common.data.labels import MISSING
from recipes.common.data.writing_systems import UNSPACED
from recipes.common.model.special_tokens import end_of_text
from recipes.common.runtime.errors import Refusal

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# How byte-level BPE writes the first bytes of Chinese and Japanese characters (0xE3 to 0xE9) and of
# their wide forms.
FIRST_BYTES = "ãäåæçèéï"
# The share that is masked for evaluation, whatever the training rate: scores stay comparable.
EVALUATED = 0.15
Array = numpy.ndarray
Collator = Callable[[list[Mapping[str, Any]]], Any]


@dataclass
class MaskedBlocks:
    """Turns rows of Blocks into input_ids, labels and, where a row is padded, attention_mask.

    All are [batch, length]. Labels are -100 where nothing is masked. A batch without padding has no
    mask: with one, GPUs would use a slower attention.

    Of the chosen tokens 80 % become the mask token, 10 % a random one, 10 % stay (Devlin et al.
    2019, section 3.1). With `whole_words` a word's pieces are masked together. Rows to evaluate are
    masked the same way in every evaluation: 15 % are chosen, and split 80/10/10.
    """

    tokenizer: PreTrainedTokenizerBase
    seed: int
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_words: bool = False
    pad_to: int | None = None
    begins: Array | None = field(init=False)  # for each token, whether it begins a word

    def __post_init__(self) -> None:
        if self.tokenizer.mask_token_id is None:
            fix = (
                "choose a masked model's tokenizer (BERT, RoBERTa, …), "
                "or say --special_tokens mask_token=TOKEN"
            )
            raise Refusal("the tokenizer has no mask token", "--tokenizer_name", fix)
        self._check_shares()
        self.special = numpy.zeros(len(self.tokenizer), dtype=bool)
        self.special[self.tokenizer.all_special_ids] = True
        self.ordinary = numpy.flatnonzero(~self.special)
        self.begins = None
        if self.whole_words:
            self.begins = word_beginnings(self.tokenizer)

    def _check_shares(self) -> None:
        shares = {"--mlm_probability": self.probability, "--mask_replace_prob": self.mask_share}
        for flag, share in shares.items():
            if not 0 < share <= 1:
                raise Refusal(f"{flag} is {share}", flag, "give a share above 0 and up to 1")
        if not 0 <= self.random_share <= 1 - self.mask_share + 1e-9:
            what = (
                f"--mask_replace_prob {self.mask_share} and "
                f"--random_replace_prob {self.random_share} exceed 1"
            )
            fix = "give shares that sum to at most 1; the rest stays as it is"
            raise Refusal(what, "--random_replace_prob", fix)

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        inputs, labels, real = [], [], []
        for row in rows:
            ids, predicted = self._mask(row)
            inputs.append(ids)
            labels.append(predicted)
            real.append(numpy.ones(len(ids)))
        batch = {
            "input_ids": _padded(inputs, self.tokenizer.pad_token_id, self.pad_to),
            "labels": _padded(labels, MISSING, self.pad_to),
        }
        mask = _padded(real, 0, self.pad_to)
        if not mask.all():
            batch["attention_mask"] = mask
        return batch

    def _mask(self, row: Mapping[str, Any]) -> tuple[Array, Array]:
        """Returns the ids of a row with its mask, and its labels."""
        ids = numpy.asarray(row["input_ids"], dtype=numpy.int64)
        if row["epoch"] is None:
            key = [0, 0, row["row"]]
            probability, mask_share, random_share = EVALUATED, 0.8, 0.1
        else:
            key = [self.seed, row["epoch"], row["row"]]
            probability = self.probability
            mask_share, random_share = self.mask_share, self.random_share
        generator = numpy.random.default_rng(key)
        chosen = self._choose(ids, probability, generator)
        draw = generator.random(len(ids))
        masked = chosen & (draw < mask_share)
        random = chosen & (draw >= mask_share) & (draw < mask_share + random_share)
        inputs = numpy.where(masked, self.tokenizer.mask_token_id, ids)
        inputs[random] = generator.choice(self.ordinary, size=int(random.sum()))
        return inputs, numpy.where(chosen, ids, MISSING)

    def _choose(self, ids: Array, probability: float, generator: numpy.random.Generator) -> Array:
        """Returns for each position whether it is predicted."""
        draws = generator.random(len(ids))
        if self.begins is not None and len(ids):
            words = numpy.cumsum(self.begins[ids] | self.special[ids])
            draws = draws[words - words[0]]
        return (draws < probability) & ~self.special[ids]


@dataclass
class CausalBlocks:
    """Turns rows of Blocks into input_ids and labels [batch, length].

    Labels are the inputs (the loss shifts them). They are -100 for padding, for the first token of
    a block, for tokens that are only context, and for the tokens that begin each document
    (`start`): Llama's <s> need not be predicted.

    With `isolate`, positions begin at 0 in every document: attention then stays inside it
    (transformers finds the borders in position_ids), and no document's first token is predicted
    from the document before.
    """

    pad: int
    end: int
    isolate: bool = False
    pad_to: int | None = None
    start: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.isolate and self.end in self.start:
            what = (
                "the tokenizer begins and ends a text with the same token: "
                "where a document begins is unknown"
            )
            fix = "leave the flag out, or use another tokenizer"
            raise Refusal(what, "--packing_isolation", fix)

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        given = [token for token in self.start if token != self.end]
        inputs, labels = [], []
        for row in rows:
            ids = numpy.asarray(row["input_ids"], dtype=numpy.int64)
            predicted = ids.copy()
            predicted[: max(1, row["context"])] = MISSING
            if given:
                predicted[numpy.isin(predicted, given)] = MISSING
            inputs.append(ids)
            labels.append(predicted)
        batch = {"input_ids": _padded(inputs, self.pad, self.pad_to)}
        if self.isolate:
            positions = [positions_in_documents(ids, self.end) for ids in inputs]
            for predicted, place in zip(labels, positions, strict=True):
                predicted[place == 0] = MISSING
            batch["position_ids"] = _padded(positions, 0, self.pad_to)
        batch["labels"] = _padded(labels, MISSING, self.pad_to)
        return batch


@dataclass
class Pairs:
    """Turns rows of input_ids, attention_mask and labels into padded batches.

    decoder_input_ids are added: the labels shifted right. The labels go to the loss, not to the
    model, so that the model cannot shift them itself. M2M100 and NLLB offer no method to do so, and
    DataCollatorForSeq2Seq then leaves the decoder without input. mBART shifts the last token of an
    answer to its front, and fails where there is none: a row without an answer gets one token until
    it is shifted.
    """

    tokenizer: PreTrainedTokenizerBase
    model: torch.nn.Module
    ignore_padding: bool = True

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        filled, unanswered = [], []
        for row in rows:
            is_unanswered = list(row["labels"]) == [MISSING]
            if is_unanswered:
                row = {**row, "labels": [end_of_text(self.tokenizer)]}
            filled.append(row)
            unanswered.append(is_unanswered)
        padding = MISSING if self.ignore_padding else self.tokenizer.pad_token_id
        pad = DataCollatorForSeq2Seq(self.tokenizer, model=self.model, label_pad_token_id=padding)
        batch = pad(filled)
        batch["labels"][torch.tensor(unanswered)] = MISSING
        if "decoder_input_ids" not in batch:
            config = self.model.config
            start = torch.full_like(batch["labels"][:, :1], config.decoder_start_token_id)
            shifted = torch.cat([start, batch["labels"][:, :-1]], dim=1)
            filler = config.pad_token_id
            batch["decoder_input_ids"] = shifted.masked_fill(shifted == MISSING, filler)
        return batch


def never_empty(collate: Collator, tokenizer: PreTrainedTokenizerBase | None) -> Collator:
    """Returns the collator, with an empty text as one token.

    GPT-2's tokenizer makes no token of an empty text, and no model reads a batch without columns.
    Other tokenizers add special tokens to an empty text: with them nothing changes.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or tokenizer("")["input_ids"]:
        return collate
    return _NeverEmpty(collate, _blank(tokenizer))


@dataclass
class _NeverEmpty:
    """Fills rows without tokens with one token, then collates."""

    collate: Collator
    token: int

    def __call__(self, rows: list[Mapping[str, Any]]) -> Any:
        filled = []
        for row in rows:
            if "input_ids" in row and len(row["input_ids"]) == 0:
                row = self._with_token(row)
            filled.append(row)
        return self.collate(filled)

    def _with_token(self, row: Mapping[str, Any]) -> dict[str, Any]:
        one = {"input_ids": [self.token], "attention_mask": [1], "token_type_ids": [0]}
        return {name: one.get(name, value) for name, value in row.items()}


def never_unanswered(labels: torch.Tensor, config: "PretrainedConfig") -> torch.Tensor:
    """Returns the labels for shifting, with an end token in each row that has no label.

    mBART moves a row's last label to its front, and fails where there is none.
    """
    labels = labels.clone()
    labels[labels.eq(MISSING).all(1), 0] = config.eos_token_id
    return labels


def _blank(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns a token without a meaning.

    It is not the padding token if there is another one: attention and classifier would skip it.
    """
    special = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.sep_token_id,
        tokenizer.unk_token_id,
    )
    for token in special:
        if token not in (None, tokenizer.pad_token_id):
            return token
    space = tokenizer(" ", add_special_tokens=False)["input_ids"]
    if space:
        return space[0]
    return tokenizer.pad_token_id


def positions_in_documents(ids: Array, end: int) -> Array:
    """Returns 0, 1, 2, … within every document; a document ends with the token `end`."""
    place = numpy.arange(len(ids))
    begins = numpy.concatenate([[True], ids[:-1] == end])
    return place - numpy.maximum.accumulate(numpy.where(begins, place, 0))


def word_beginnings(tokenizer: PreTrainedTokenizerBase) -> Array:
    """Returns for every token whether it begins a word.

    WordPiece marks it with ##, byte-level BPE with Ġ, Unigram with ▁. A character of a script
    without spaces begins a word, too.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    if _is_wordpiece(tokenizer, tokens):
        return numpy.asarray([not token.startswith("##") for token in tokens])
    marks = []
    for mark in "Ġ▁":
        if _is_used(mark, tokens):
            marks.append(mark)
    if not marks:
        fix = "leave the flag out, or use a WordPiece, byte-level BPE or Unigram tokenizer"
        raise Refusal("the tokenizer does not show where words begin", "--whole_word_mask", fix)
    firsts = (*marks, "Ċ")
    if "Ġ" in marks:
        firsts = (*firsts, *FIRST_BYTES)
    begins = numpy.zeros(len(tokens), dtype=bool)
    for number, token in enumerate(tokens):
        begins[number] = token.startswith(firsts) or bool(UNSPACED.match(token))
    return begins


def _is_wordpiece(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]) -> bool:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast:  # the vocabulary does not show it: others hold Markdown's ##, too
        return type(fast.model).__name__ == "WordPiece"
    return _is_used("##", tokens)


def _is_used(mark: str, tokens: Iterable[str]) -> bool:
    """Whether a token begins with this mark."""
    return any(token.startswith(mark) for token in tokens)


def _padded(rows: list[Array], value: int, length: int | None) -> torch.Tensor:
    """Returns the rows as one tensor, padded to `length` or, if it is longer, to the longest."""
    size = max(length or 0, *map(len, rows))
    padded = numpy.full((len(rows), size), value, dtype=numpy.int64)
    for position, row in enumerate(rows):
        padded[position, : len(row)] = row
    return torch.from_numpy(padded)
