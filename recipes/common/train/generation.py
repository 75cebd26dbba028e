"""Generates texts in evaluations, no longer than the training targets of such texts."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy
import torch
from datasets import Dataset
from pyarrow.compute import list_value_length
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedModel

from recipes.common.config.flags import GenerationArguments
from recipes.common.config.services import generation_settings
from recipes.common.data.labels import MISSING
from recipes.common.model import probes
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens.encoding import Tokens
from recipes.common.train.fused_lm_loss import States
from recipes.common.train.samplers import lengths_of

if TYPE_CHECKING:
    from transformers import Seq2SeqTrainingArguments

# This share of the training targets may be longer than a limit. Otherwise one target of 96 tokens
# would set the limit where all others have 27.
OUTLIERS = 0.005
# A limit comes from the texts of 80 to 100 % of a length. Shorter texts are added until there are
# 200, so that the share of outliers is one text.
SIMILAR_FROM = 0.8
FEWEST_SIMILAR = 200
ROWS = 10_000
# For these batches the decoder keeps 2 x 4 states per token and layer. Training one batch keeps 17
# (Korthikanti et al. 2022).
BATCHES_AT_ONCE = 4
Array = numpy.ndarray


class TextGeneration:
    """Generates texts with a model of an encoder and a decoder.

    It sets the model's generation configuration. By default nothing limits the length: an untrained
    model generated 122 tokens for captions of 15. Here a text may be as long as requested, or a
    quarter longer than nearly all training targets of texts of about this length. Texts are
    generated for several batches at once, as many as need no more memory than training does. One
    token for all of them takes hardly longer than one token for one batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: GenerationArguments,
        training_arguments: "Seq2SeqTrainingArguments",
        encoded: Tokens,
    ):
        named = training_arguments.generation_config
        if named:
            model.generation_config = _settings(named, model.generation_config)
        generation = model.generation_config
        self.interim = arguments.interim_eval_samples
        self.seed = training_arguments.seed
        self.rows = training_arguments.eval_batch_size
        requested = arguments.val_max_target_length or training_arguments.generation_max_length
        _, positions = probes.positions(model)
        self.most = min(requested or arguments.max_target_length, positions - 1)
        self.least = max(generation.min_length or 0, generation.min_new_tokens or 0) + 1
        self.lengths = numpy.zeros(1)
        self.longest = numpy.asarray([requested or generation.max_new_tokens or numpy.inf])
        if not requested and isinstance(encoded.train, Dataset):
            self.lengths, self.longest = _longest_answers(encoded.train)
        generation.max_length = None
        generation.max_new_tokens = int(self.limits(numpy.inf))
        beams = arguments.num_beams or training_arguments.generation_num_beams
        generation.num_beams = beams or generation.num_beams
        beams = generation.num_beams or 1
        if beams == 1:  # these two belong to a search: with them no checkpoint could be saved
            generation.early_stopping = False
            generation.length_penalty = 1.0
        _check(generation)
        fitting = BATCHES_AT_ONCE * training_arguments.train_batch_size // (self.rows * beams)
        self.batches_at_once = min(max(fitting, 1), BATCHES_AT_ONCE)

    def score_one_batch_at_once(self) -> None:
        """Scores each batch by itself, where a model computes the logits of all positions.

        Those of one batch are large enough.
        """
        self.batches_at_once = 1

    def limits(self, lengths: Array | float) -> Array:
        """Returns how many tokens may be generated for texts of these lengths in tokens."""
        rank = numpy.searchsorted(self.lengths, lengths, side="right") - 1
        longest = self.longest[numpy.maximum(rank, 0)]
        return numpy.clip(longest, self.least, self.most).astype(numpy.int64)

    def sample(self, dataset: Dataset) -> Dataset:
        """Returns the rows that are evaluated during training.

        They are drawn with the seed: the same each time, in the order of the data set.
        """
        if not self.interim or len(dataset) <= self.interim:
            return dataset
        rows = numpy.random.default_rng(self.seed).choice(len(dataset), self.interim, replace=False)
        return dataset.select(numpy.sort(rows))

    def parts(self, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Splits a batch that texts are generated for into the batches that are scored.

        If there are several batches, each has no more padding than it needs.
        """
        rows = max(self.rows, math.ceil(len(inputs["input_ids"]) / self.batches_at_once))
        split = [values.split(rows) for values in inputs.values()]
        parts = [dict(zip(inputs, part, strict=True)) for part in zip(*split, strict=True)]
        if len(parts) > 1:
            parts = list(map(_trimmed, parts))
        return parts

    def write(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        encoded: Sequence[torch.Tensor | None],
        is_sharded: bool,
    ) -> torch.Tensor:
        """Generates token ids [rows, length] for the texts of a batch.

        `encoded` holds the encoder's states of the parts; without them the encoder reads the texts
        again. Where the model `is_sharded`, no process stops before the others: each holds a part.
        """
        length = inputs["input_ids"].shape[1]
        prompt = {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
        }
        states = _joined(encoded, length)
        if states is not None:
            prompt["encoder_outputs"] = States(states)
        most = int(self.limits(length))
        with _as_built(model):
            return model.generate(**prompt, max_new_tokens=most, synced_gpus=is_sharded)


def _joined(encoded: Sequence[torch.Tensor | None], length: int) -> torch.Tensor | None:
    """Returns the states of all parts, padded to one length; None where they are not all there."""
    padded = []
    for states in encoded:
        if states is None:
            return None
        padded.append(functional.pad(states, (0, 0, 0, length - states.shape[1])))
    return torch.cat(padded)


@contextmanager
def _as_built(model: torch.nn.Module) -> Iterator[None]:
    """Gives the model its own forward pass inside the context.

    accelerate wraps it: the wrapper enters autocast and casts all outputs to fp32, the encoder's
    states and every weight once more for every token.
    """
    wrapped, own = vars(model).get("forward"), upstream.forward_as_built(model)
    if own is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = wrapped


def _trimmed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the batch without the last columns that hold padding in every row."""
    text_end = _end(batch["attention_mask"].bool())
    label_end = _end(batch["labels"].ne(MISSING))
    ends = {
        "input_ids": text_end,
        "attention_mask": text_end,
        "labels": label_end,
        "decoder_input_ids": label_end,
    }
    trimmed = {}
    for name, values in batch.items():
        if name in ends:
            values = values[:, : ends[name]]
        trimmed[name] = values
    return trimmed


def _end(mask: torch.Tensor) -> int:
    """Returns the number of columns up to the last that is true in a row; at least one."""
    columns = mask.any(0).nonzero()
    if not len(columns):
        return 1
    return int(columns[-1]) + 1


def _settings(name: GenerationConfig | str, own: GenerationConfig) -> GenerationConfig:
    """Returns the settings of --generation_config; tokens that it lacks are the model's own."""
    found = generation_settings(name)
    for key, value in vars(own).items():
        is_token = key.endswith(("_token_id", "_token_ids"))
        if is_token and getattr(found, key, None) is None:
            setattr(found, key, value)
    return found


def _check(generation: GenerationConfig) -> None:
    """Refuses before the training the settings that no checkpoint could be saved with."""
    try:
        generation.validate(strict=True)
    except ValueError as error:
        what = " ".join(str(error).split())
        fix = "choose other generation flags, or mend that file"
        raise Refusal(what, "generation_config.json", fix) from None


def _longest_answers(train: Dataset) -> tuple[Array, Array]:
    """Returns rising lengths of texts, and the limit for texts from each length to the next.

    The limit is 1.25 times the 99.5th percentile of the targets of such texts, or 4 tokens more. It
    is never above the limit of a longer text. Beyond the longest text of the training data it is
    1.25 times the longest target.
    """
    lengths = lengths_of(train)
    order = numpy.argsort(lengths, kind="stable")
    targets = _label_lengths(train)[order]
    texts, lengths = numpy.unique(lengths), lengths[order]
    ends = numpy.searchsorted(lengths, texts, "right")
    similar = numpy.searchsorted(lengths, SIMILAR_FROM * texts)
    starts = numpy.minimum(similar, numpy.maximum(ends - FEWEST_SIMILAR, 0))
    longest = []
    for start, end in zip(starts, ends, strict=True):
        longest.append(numpy.quantile(targets[start:end], 1 - OUTLIERS, method="higher"))
    falling = numpy.minimum.accumulate(longest[::-1])[::-1]
    longest = numpy.append(falling, targets.max())
    return numpy.append(texts, texts[-1] + 1), longest + numpy.maximum(4, longest // 4)


def _label_lengths(train: Dataset) -> Array:
    """Counts the labels of each row without lists of them: memory holds some rows at a time."""
    parts = train.select_columns("labels").with_format("arrow").iter(ROWS)
    lengths = [list_value_length(part["labels"]).to_numpy() for part in parts]
    return numpy.concatenate(lengths).astype(numpy.int64)
