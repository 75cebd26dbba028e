"""Scores models that label words: entities where labels are B-, I- and the like, otherwise words.

An entity counts as found where its words and its type are right, as in the CoNLL-2003 task (Tjong
Kim Sang and De Meulder 2003). seqeval reads the entities from the labels.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy
from torch.nn import functional

from recipes.common.data.entity_labels import OUTSIDE, are_entities, in_iobes
from recipes.common.data.labels import MISSING, Labels
from recipes.common.data.splits import Splits
from recipes.common.metrics.classification import arrays_of, bootstrap, name_of_class
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean
from recipes.common.tokens.words import NO_WORD, continued_ids

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import EvalPrediction

SPAN = "span"  # the type of entities whose labels name none: B, I, O; words in Chinese: B, M, E, S
NO_TYPE = "_"  # seqeval's word for it
FOR_ENTITIES = ("f1", "precision", "recall", "accuracy")
FOR_WORDS = ("accuracy", "f1_macro")
Entity = tuple[str, int, int]  # its type, its first word, its last word
Names = Sequence[str]


def entities(labels: Names) -> list[Entity]:
    """Returns the entities of a sentence, from the labels of its words, in order."""
    from seqeval.metrics.sequence_labeling import get_entities

    found = []
    for kind, first, last in get_entities([in_iobes(label) for label in labels]):
        found.append((SPAN if kind == NO_TYPE else kind, first, last))
    return found


def shown(labels: Labels) -> tuple[str, ...]:
    """Returns the metrics of these labels, the most important first."""
    return FOR_ENTITIES if are_entities(labels.names) else FOR_WORDS


def names(labels: Labels) -> frozenset[str]:
    """Returns the names of all scores that `for_words` may compute for these labels."""
    kinds = {name[2:] or SPAN for name in labels.names if name != OUTSIDE}
    found = {*FOR_ENTITIES, *FOR_WORDS}
    for name in ("f1", "accuracy"):
        found |= {f"{name}_low", f"{name}_high"}
    for name in ("f1", "precision", "recall"):
        found.update(f"{name}_{name_of_class(one)}" for one in (*kinds, *labels.names))
    return frozenset(found)


def most_frequent(labels: Labels) -> int:
    """Returns the label that most words of the training data have; O where nothing was trained."""
    if not any(labels.counts) and OUTSIDE in labels.names:
        return labels.names.index(OUTSIDE)
    return labels.counts.index(max(labels.counts))


def best_labels(
    logits: "torch.Tensor | tuple[torch.Tensor, ...]", labels: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Returns the best label of each token, its probability, and the token's loss in nats.

    They are all that is kept of the logits: [rows, length] each. The loss is 0 where a token has no
    label. It is a preprocess_logits_for_metrics for Trainer.
    """
    if isinstance(logits, tuple):
        logits = logits[0]
    probabilities, best = logits.float().softmax(-1).max(-1)
    losses = functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=MISSING, reduction="none"
    )
    return best, probabilities, losses


def for_words(
    splits: Splits, metric_name: str | None = None
) -> Callable[["EvalPrediction"], dict[str, float]]:
    """Returns a compute_metrics for Trainer: scores, their intervals, and the baseline's scores.

    The baseline gives each word the label that it has most often in the training data. Tokens with
    the label -100 are left out.
    """
    labels, (column,) = splits.known_labels, splits.texts
    known = shown(labels)
    if metric_name and metric_name not in known:
        fix = did_you_mean(metric_name, known, f"use one of {', '.join(known)}")
        raise Refusal(f"no metric {metric_name!r} for labelled words", "--metric_name", fix)
    usual = _usual_labels(splits.train, column)

    def compute_metrics(prediction: "EvalPrediction") -> dict[str, float]:
        best, _, losses = arrays_of(prediction.predictions)
        (encoded,) = arrays_of(prediction.label_ids)
        wanted, found = _named(labels, encoded, encoded), _named(labels, best, encoded)
        if not any(wanted):
            return {}
        scores = _scores(labels, wanted, found)
        # Trainer's loss is a mean of batches: rows that fill up the last batches count twice.
        scores["loss"] = float(losses[encoded != MISSING].mean())
        if not hasattr(prediction.inputs, "select_columns"):  # --include_for_metrics
            return scores
        guessed = _guesses(prediction.inputs, column, usual, encoded, labels)
        for name, value in _scores(labels, wanted, guessed, with_intervals=False).items():
            if name in known:
                scores[f"baseline_{name}"] = value
        return scores

    return compute_metrics


def _named(labels: Labels, ids: numpy.ndarray, encoded: numpy.ndarray) -> list[Names]:
    """Returns the names of the labels of each row, where a token has a label."""
    rows: list[Names] = []
    for row, own in zip(ids, encoded, strict=True):
        rows.append([labels.names[label] for label in row[own != MISSING]])
    return rows


def _usual_labels(train: Any, column: str) -> dict[str, int]:
    """Returns the most frequent label of each word of the training data."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    if not hasattr(train, "__len__"):  # a stream
        return {}
    for rows in train.select_columns([column, "labels"]).iter(1000):
        for words, own in zip(rows[column], rows["labels"], strict=True):
            for word, label in zip(words, own, strict=True):
                counts[word][label] += label != MISSING
    usual = {word: max(found, key=found.__getitem__) for word, found in counts.items()}
    return {word: label for word, label in usual.items() if label != MISSING}


def _guesses(
    rows: "Dataset", column: str, usual: dict[str, int], encoded: numpy.ndarray, labels: Labels
) -> list[Names]:
    """Returns the baseline's labels, for the tokens that have a label."""
    default, further = most_frequent(labels), continued_ids(labels.names)
    found: list[Names] = []
    for row, own in zip(rows.select_columns([column, "word_ids"]), encoded, strict=True):
        of_words = [usual.get(word, default) for word in row[column]]
        guessed, before = [], NO_WORD
        for word, label in zip(row["word_ids"], own, strict=False):
            is_further = word == before  # --label_all_tokens
            before = word
            if label == MISSING:
                continue
            guess = further[of_words[word]] if is_further else of_words[word]
            guessed.append(labels.names[guess])
        found.append(guessed)
    return found


def _scores(
    labels: Labels, wanted: list[Names], found: list[Names], with_intervals: bool = True
) -> dict[str, float]:
    """Returns the metrics of `shown` first, then those of each type, then the intervals."""
    pairs = list(zip(wanted, found, strict=True))
    right = numpy.array([_agreeing(*pair) for pair in pairs], dtype=float)
    total = right.sum(axis=0)
    accuracy = {"accuracy": float(total[0] / total[1])}
    bounds = {}
    if are_entities(labels.names):
        rows = [_counts(*pair) for pair in pairs]
        scores = _scores_of_entities(rows, accuracy)
        if with_intervals:
            sums = numpy.array([_sums(row) for row in rows], dtype=float)
            bounds["f1_low"], bounds["f1_high"] = bootstrap(sums, _f1)
    else:
        scores = accuracy | _scores_of_words(labels, wanted, found)
    if with_intervals:
        bounds["accuracy_low"], bounds["accuracy_high"] = bootstrap(right, _accuracy)
    return scores | bounds


def _agreeing(wanted: Names, found: Names) -> tuple[int, int]:
    """Returns how many labels of a row are right, and how many there are."""
    pairs = zip(wanted, found, strict=True)
    return sum(one == other for one, other in pairs), len(wanted)


def _scores_of_words(labels: Labels, wanted: list[Names], found: list[Names]) -> dict[str, float]:
    """Returns the F1 score of each label, and their mean."""
    from sklearn.metrics import f1_score

    true = [name for row in wanted for name in row]
    predicted = [name for row in found for name in row]
    present = [name for name in labels.names if name in {*true, *predicted}]
    values = f1_score(true, predicted, labels=present, average=None, zero_division=0)
    scores = {"f1_macro": float(numpy.mean(values))}
    for name, value in zip(present, values, strict=True):
        scores[f"f1_{name_of_class(name)}"] = float(value)
    return scores


Counts = dict[str, list[int]]  # type -> entities that are right, found and wanted


def _counts(wanted: Names, found: Names) -> Counts:
    """Returns for each type how many entities of a row are right, found and wanted."""
    counts: Counts = defaultdict(lambda: [0, 0, 0])
    true, predicted = set(entities(wanted)), set(entities(found))
    for place, group in enumerate((true & predicted, predicted, true)):
        for kind, _, _ in group:
            counts[kind][place] += 1
    return counts


def _sums(counts: Counts) -> list[int]:
    """Returns the counts of all types together."""
    return [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0, 0]


def _scores_of_entities(rows: list[Counts], accuracy: dict[str, float]) -> dict[str, float]:
    """Returns precision, recall and F1 of all entities, the accuracy, and those of each type."""
    totals: Counts = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        for kind, counts in row.items():
            totals[kind] = [one + other for one, other in zip(totals[kind], counts, strict=True)]
    scores = _of_counts("", _sums(totals)) | accuracy
    if totals.keys() == {SPAN}:  # its scores are those of all
        return scores
    for kind, counts in sorted(totals.items()):
        scores |= _of_counts(f"_{name_of_class(kind)}", counts)
    return scores


def _of_counts(ending: str, counts: Sequence[int]) -> dict[str, float]:
    """Returns precision, recall and F1; 0 where there is nothing to divide by, as seqeval does."""
    right, found, wanted = counts
    return {
        f"f1{ending}": 2 * right / max(found + wanted, 1),
        f"precision{ending}": right / max(found, 1),
        f"recall{ending}": right / max(wanted, 1),
    }


def _f1(sums: numpy.ndarray) -> numpy.ndarray:
    """Returns F1 scores [draws] of sums [draws, 3]."""
    return 2 * sums[:, 0] / numpy.maximum(sums[:, 1] + sums[:, 2], 1)


def _accuracy(sums: numpy.ndarray) -> numpy.ndarray:
    """Returns shares [draws] of sums [draws, 2]: what is right among all."""
    return sums[:, 0] / numpy.maximum(sums[:, 1], 1)
