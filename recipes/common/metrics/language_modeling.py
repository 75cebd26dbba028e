"""How well tokens are predicted: sums over tokens, not means of batches, so that no batch size changes a score.

Trainer's eval loss is the mean of the batches' means: perplexity 200, 250 or 261 for one model, by eval batch size.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch.nn import functional

from recipes.common.data.labels import MISSING
from recipes.common.metrics.classification import bootstrap
from recipes.common.tokens.blocks import Blocks
from recipes.common.tokens.stream import WINDOW, Stream

MAPPED = 2**24  # ids that are read into memory at once
CHUNK = 4096  # tokens whose probabilities are held at once
Array = numpy.ndarray


def sums(shift: bool) -> Callable[[Any, torch.Tensor], Any]:
    """A preprocess_logits_for_metrics: (logits, labels) -> [rows, 3]: summed loss in nats, hits, predicted tokens.

    `shift`: the logits at a position predict the next token (causal models). Logits are [rows, length, words], or the
    scores [positions, 2] of heads.Head. Generated tokens, where the logits come as a pair with them, are passed on.
    """

    def reduce(logits: Any, labels: torch.Tensor) -> Any:
        if isinstance(logits, tuple):
            return reduce(logits[0], labels), logits[1]
        labels = labels[:, 1:] if shift else labels
        present = labels.ne(MISSING)
        losses = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
        hits = torch.zeros_like(losses)
        if logits.dim() == 2:
            losses[present], hits[present] = logits.double().unbind(1)
        else:
            kept = logits[:, : labels.shape[1]][present]
            losses[present], hits[present] = _losses_and_hits(kept, labels[present])
        return torch.stack([losses.sum(1), hits.sum(1), present.sum(1).double()], dim=1)

    return reduce


def _losses_and_hits(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(zip(logits.split(CHUNK), labels.split(CHUNK), strict=True))
    losses = [
        functional.cross_entropy(part.float(), truth, reduction="none") for part, truth in parts
    ]
    hits = [part.argmax(-1).eq(truth) for part, truth in parts]
    return torch.cat(losses).double(), torch.cat(hits).double()


def scores(totals: Array) -> dict[str, float]:
    """Cross entropy (nats a token), perplexity and accuracy, with 95 % intervals, from rows of `sums`."""
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
        found |= {"perplexity_low": _exp(low), "perplexity_high": _exp(high)}
        found["accuracy_low"], found["accuracy_high"] = bootstrap(
            totals, lambda drawn: drawn[:, 1] / drawn[:, 2]
        )
    return {name: float(value) for name, value in found.items()}


def for_tokens(train: Any, vocabulary: int, shift: bool) -> Callable[[Any], dict[str, float]]:
    """A compute_metrics for Trainer, with `sums` before it: scores, bits per byte, and the unigram model beside them.

    Bits per byte are nats a token / ln 2 * tokens / bytes of the evaluated text, which compares models of different
    vocabularies. The unigram model knows how frequent each token is in the training data (add-one) and nothing else.
    """
    frequencies = unigram(train, vocabulary) if train is not None else None

    def compute_metrics(prediction: Any) -> dict[str, float]:
        totals, labels = (
            numpy.asarray(prediction.predictions, dtype=numpy.float64),
            prediction.label_ids,
        )
        found = scores(totals)
        ratio = getattr(prediction.inputs, "tokens_per_byte", None)
        if ratio:
            found["bits_per_byte"] = found["cross_entropy"] / math.log(2) * ratio
        known = frequencies if frequencies is not None else unigram(prediction.inputs, vocabulary)
        return found | _baseline(known, labels[:, 1:] if shift else labels)

    return compute_metrics


def unigram(blocks: Any, vocabulary: int) -> Array:
    """The share of every token among the training data, each counted once more; of a stream, among its first blocks.
    What a document is given to begin with is predicted by nobody, and counts once."""
    if isinstance(blocks, Stream):
        rows = (row["input_ids"] for row, _ in zip(blocks, range(WINDOW), strict=False))
        ids = numpy.concatenate(list(rows))
    else:
        ids = blocks.ids if isinstance(blocks, Blocks) else numpy.concatenate(blocks["input_ids"])
    parts = numpy.split(ids, range(MAPPED, len(ids), MAPPED))
    counts = sum(numpy.bincount(part, minlength=vocabulary) for part in parts) + 1
    if isinstance(blocks, Blocks | Stream):
        counts[[*blocks.layout.between]] = 1
    return counts / counts.sum()


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
    return math.exp(min(value, 700.0))
