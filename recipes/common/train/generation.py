"""Answers to the texts that are evaluated: as long as the training data's answers to such texts, and no longer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from datasets import Dataset
from pyarrow.compute import list_value_length
from torch.nn import functional
from transformers import GenerationConfig

from recipes.common.config.services import generation_settings
from recipes.common.data.labels import MISSING
from recipes.common.model import probes
from recipes.common.runtime.errors import Refusal
from recipes.common.train.fused_lm_loss import States
from recipes.common.train.samplers import lengths_of

PROMPT = ("input_ids", "attention_mask")
FEW = (
    0.005  # of the answers in training may be longer: one of 96 tokens would bound all that have 27
)
ABOUT = 0.8  # of a text's length, and up to all of it: the texts that are like it,
LIKE = 200  # at least, so that FEW of them are one
ROWS = 10_000
TOGETHER = 4  # batches: their decoder keeps 2 x 4 states a token and layer, training one 17 (Korthikanti et al. 2022)
Array = numpy.ndarray


class Answers:
    """Writes answers with a model of an encoder and a decoder, whose generation configuration it sets.

    Nothing bounds answers by default: an untrained model wrote 122 tokens about captions of 15. Here they may grow as
    long as was asked for, or a quarter longer than nearly all training answers to texts of about this length. As many
    batches are written about `together` as take no more memory than training does: a token costs hardly more for all.
    """

    def __init__(
        self, model: torch.nn.Module, arguments: Any, training_arguments: Any, encoded: Any
    ):
        if training_arguments.generation_config:
            model.generation_config = _settings(
                training_arguments.generation_config, model.generation_config
            )
        generation = model.generation_config
        asked = arguments.val_max_target_length or training_arguments.generation_max_length
        _, positions = probes.positions(model)
        self.lengths, self.longest = (
            numpy.zeros(1),
            numpy.asarray([asked or generation.max_new_tokens or numpy.inf]),
        )
        self.most = min(asked or arguments.max_target_length, positions - 1)
        self.interim, self.seed = arguments.interim_eval_samples, training_arguments.seed
        self.least = max(generation.min_length or 0, generation.min_new_tokens or 0) + 1
        if not asked and isinstance(encoded.train, Dataset):
            self.lengths, self.longest = _longest_answers(encoded.train)
        generation.max_length, generation.max_new_tokens = None, int(self.limits(numpy.inf))
        generation.num_beams = (
            arguments.num_beams or training_arguments.generation_num_beams or generation.num_beams
        )
        if (
            generation.num_beams or 1
        ) == 1:  # these are a search's: with them nothing could be saved
            generation.early_stopping, generation.length_penalty = False, 1.0
        _check(generation)
        self.rows = training_arguments.eval_batch_size
        beams = self.rows * (generation.num_beams or 1)
        self.together = min(
            max(TOGETHER * training_arguments.train_batch_size // beams, 1), TOGETHER
        )

    def limits(self, lengths: Any) -> Array:
        """Tokens that may be written about texts of these lengths in tokens."""
        rank = numpy.searchsorted(self.lengths, lengths, side="right") - 1
        return numpy.clip(self.longest[numpy.maximum(rank, 0)], self.least, self.most).astype(
            numpy.int64
        )

    def sample(self, dataset: Any) -> Any:
        """What is evaluated during training: rows that are drawn with the seed, the same each time, in order."""
        if not self.interim or len(dataset) <= self.interim:
            return dataset
        rows = numpy.random.default_rng(self.seed).choice(len(dataset), self.interim, replace=False)
        return dataset.select(numpy.sort(rows))

    def parts(self, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """A batch to write about as the batches to be scored, each without the padding that it does not need."""
        rows = max(self.rows, -(-len(inputs["input_ids"]) // self.together))
        split = [values.split(rows) for values in inputs.values()]
        parts = [dict(zip(inputs, part, strict=True)) for part in zip(*split, strict=True)]
        return [_trimmed(part) for part in parts] if len(parts) > 1 else parts

    def write(
        self, model: Any, inputs: dict, encoded: Sequence[torch.Tensor | None], shared_out: bool
    ) -> torch.Tensor:
        """Token ids [rows, length] about the texts of a batch; `encoded` is what the encoder made of its parts, or it
        reads them again. `shared_out`: no process stops before the others, because they hold the model together."""
        prompt, length = {name: inputs[name] for name in PROMPT}, inputs["input_ids"].shape[1]
        if all(states is not None for states in encoded):
            padded = [
                functional.pad(states, (0, 0, 0, length - states.shape[1])) for states in encoded
            ]
            prompt["encoder_outputs"] = States(torch.cat(padded))
        most = int(self.limits(length))
        with _as_built(model):
            return model.generate(**prompt, max_new_tokens=most, synced_gpus=shared_out)


@contextmanager
def _as_built(model: torch.nn.Module) -> Iterator[None]:
    """Within it the model's own forward pass: around it accelerate enters autocast and casts all outputs to fp32, the
    encoder's states and every weight once more for every token."""
    wrapped, own = vars(model).get("forward"), vars(model).get("_original_forward")
    if own is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = wrapped


def _trimmed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch without the last columns that hold padding in every row."""
    texts, answers = _end(batch["attention_mask"].bool()), _end(batch["labels"].ne(MISSING))
    ends = dict.fromkeys(PROMPT, texts) | dict.fromkeys(("labels", "decoder_input_ids"), answers)
    return {
        name: values[:, : ends[name]] if name in ends else values for name, values in batch.items()
    }


def _end(mask: torch.Tensor) -> int:
    """Columns up to the last that is true in a row, and one at least."""
    columns = mask.any(0).nonzero()
    return int(columns[-1]) + 1 if len(columns) else 1


def _settings(name: Any, own: GenerationConfig) -> GenerationConfig:
    """What --generation_config says, and the model's own tokens where it names none."""
    found = generation_settings(name)
    for key, value in vars(own).items():
        if key.endswith(("_token_id", "_token_ids")) and getattr(found, key, None) is None:
            setattr(found, key, value)
    return found


def _check(generation: GenerationConfig) -> None:
    """Refuses before the training what no checkpoint could be saved with."""
    try:
        generation.validate(strict=True)
    except ValueError as error:
        what = " ".join(str(error).split())
        raise Refusal(
            what, "generation_config.json", "choose other generation flags, or mend that file"
        ) from None


def _longest_answers(train: Dataset) -> tuple[Array, Array]:
    """Lengths of texts, in order, and how long an answer may be to a text that is as long, up to the next: a quarter
    longer than all but the longest FEW of the answers to texts of about that length, and no longer than one to a longer
    text. To a text that is longer than all of them an answer may be a quarter longer than any."""
    lengths = lengths_of(train)
    order = numpy.argsort(lengths, kind="stable")
    answers = _label_lengths(train)[order]
    texts, lengths = numpy.unique(lengths), lengths[order]
    ends = numpy.searchsorted(lengths, texts, "right")
    starts = numpy.minimum(
        numpy.searchsorted(lengths, ABOUT * texts), numpy.maximum(ends - LIKE, 0)
    )
    windows = zip(starts, ends, strict=True)
    longest = [
        numpy.quantile(answers[start:end], 1 - FEW, method="higher") for start, end in windows
    ]
    longest = numpy.append(numpy.minimum.accumulate(longest[::-1])[::-1], answers.max())
    return numpy.append(texts, texts[-1] + 1), longest + numpy.maximum(4, longest // 4)


def _label_lengths(train: Dataset) -> Array:
    """The labels of each row, counted without a list of them: memory holds some rows at a time."""
    parts = train.select_columns("labels").with_format("arrow").iter(ROWS)
    return numpy.concatenate(
        [list_value_length(part["labels"]).to_numpy() for part in parts]
    ).astype(numpy.int64)
