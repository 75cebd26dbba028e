"""Scores predicted tokens by sums over tokens, so that the batch size does not change a score.

Trainer's eval loss is a mean of the batches' means: for one model it gives a perplexity of 200, 250
or 261, depending on the eval batch size.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy
import torch
from torch.nn import functional

from recipes.common.data.labels import MISSING
from recipes.common.metrics.classification import arrays_of, bootstrap
from recipes.common.tokens.blocks import Blocks
from recipes.common.tokens.stream import WINDOW, Stream

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import EvalPrediction

MAPPED = 2**24  # ids that are read into memory at once
CHUNK = 4096  # tokens whose probabilities are held at once
Array = numpy.ndarray
Logits = torch.Tensor | tuple[torch.Tensor, torch.Tensor]  # alone, or with generated tokens


def token_sums(shift: bool) -> Callable[[Logits, torch.Tensor], Logits]:
    """Returns a preprocess_logits_for_metrics: (logits, labels) -> sums of each row [rows, 3].

    The sums are the loss in nats, the hits, and the predicted tokens. With `shift` the logits at a
    position predict the next token (causal models). Logits are [rows, length, vocabulary size], or
    the scores [positions, 2 or 3] of fused_lm_loss.Head. Generated tokens that come with them are
    passed on. Labels are not smoothed here: perplexity is that of the tokens as they are.
    """

    def reduce(logits: Logits, labels: torch.Tensor) -> Logits:
        predicted = labels[:, 1:] if shift else labels
        if isinstance(logits, tuple):
            return _sums(logits[0], predicted), logits[1]
        return _sums(logits, predicted)

    return reduce


def _sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    present = labels.ne(MISSING)
    losses = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    hits = torch.zeros_like(losses)
    if logits.dim() == 2:
        losses[present], hits[present] = logits[:, :2].double().unbind(1)
    else:
        kept = logits[:, : labels.shape[1]][present]
        losses[present], hits[present] = _losses_and_hits(kept, labels[present])
    return torch.stack([losses.sum(1), hits.sum(1), present.sum(1).double()], dim=1)


def _losses_and_hits(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    losses, hits = [], []
    for part, wanted in zip(logits.split(CHUNK), labels.split(CHUNK), strict=True):
        losses.append(functional.cross_entropy(part.float(), wanted, reduction="none"))
        hits.append(part.argmax(-1).eq(wanted))
    return torch.cat(losses).double(), torch.cat(hits).double()


def scores(totals: Array) -> dict[str, float]:
    """Returns cross entropy (nats per token), perplexity and accuracy, with 95 % intervals.

    `totals` are the rows that `token_sums` returns.
    """
    loss, hits, count = totals.sum(axis=0)
    mean = loss / max(count, 1)
    found = {
        "loss": mean,
        "cross_entropy": mean,
        "perplexity": _exp(mean),
        "accuracy": hits / max(count, 1),
    }
    if len(totals) > 1 and (totals[:, 2] > 0).all():
        low, high = bootstrap(totals, lambda drawn: drawn[:, 0] / drawn[:, 2])
        found["perplexity_low"], found["perplexity_high"] = _exp(low), _exp(high)
        low, high = bootstrap(totals, lambda drawn: drawn[:, 1] / drawn[:, 2])
        found["accuracy_low"], found["accuracy_high"] = low, high
    return {name: float(value) for name, value in found.items()}


def for_tokens(
    train: "Blocks | Stream | None", vocabulary: int, shift: bool
) -> Callable[["EvalPrediction"], dict[str, float]]:
    """Returns a compute_metrics for Trainer: scores of `token_sums`, bits per byte, a baseline.

    Bits per byte are nats per token / ln 2 * tokens / bytes of the evaluated text. They compare
    models of different vocabularies. The baseline is a unigram model. It knows how frequent each
    token is in the training data (add-one), and nothing else.
    """
    frequencies = None
    if train is not None:
        frequencies = unigram(train, vocabulary)

    def compute_metrics(prediction: "EvalPrediction") -> dict[str, float]:
        found = scores(numpy.asarray(prediction.predictions, dtype=numpy.float64))
        ratio = getattr(prediction.inputs, "tokens_per_byte", None)
        if ratio:
            found["bits_per_byte"] = found["cross_entropy"] / math.log(2) * ratio
        known = frequencies
        if known is None:
            known = unigram(prediction.inputs, vocabulary)
        (labels,) = arrays_of(prediction.label_ids)
        if shift:
            labels = labels[:, 1:]
        return found | _baseline(known, labels)

    return compute_metrics


def unigram(blocks: "Blocks | Stream | Dataset", vocabulary: int) -> Array:
    """Returns the share of each token in the training data, after one is added to every count.

    Of a stream it reads the first 1,000 blocks. The tokens that begin every document are never
    predicted, and count once.
    """
    ids = _ids(blocks)
    parts = numpy.split(ids, range(MAPPED, len(ids), MAPPED))
    one: Array = numpy.ones(1, dtype=numpy.int64)  # added to every count
    counts = sum((numpy.bincount(part, minlength=vocabulary) for part in parts), start=one)
    if isinstance(blocks, Blocks | Stream):
        counts[[*blocks.layout.between]] = 1
    return counts / counts.sum()


def _ids(blocks: "Blocks | Stream | Dataset") -> Array:
    if isinstance(blocks, Blocks):
        return blocks.ids
    if isinstance(blocks, Stream):
        first = zip(blocks, range(WINDOW), strict=False)
        return numpy.concatenate([row["input_ids"] for row, _ in first])
    return numpy.concatenate(blocks["input_ids"])


def _baseline(frequencies: Array, labels: Array) -> dict[str, float]:
    present = labels[labels != MISSING]
    if not len(present):
        return {}
    mean = float(-numpy.log(frequencies[present]).mean())
    accuracy = float((present == frequencies.argmax()).mean())
    return {
        "baseline_cross_entropy": mean,
        "baseline_perplexity": _exp(mean),
        "baseline_accuracy": accuracy,
    }


def _exp(value: float) -> float:
    """Returns e to the power of the value, which is cut at 700: more is too large for a float."""
    return math.exp(min(value, 700.0))
