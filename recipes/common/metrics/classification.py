"""How good it is: metrics on scikit-learn that need no network, with bootstrap intervals and a baseline beside them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy
from scipy.special import expit, softmax

from recipes.common.data.labels import MISSING, MULTI, REGRESSION, SINGLE, Labels
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean

Array = numpy.ndarray
FOR_LABELS = (
    "accuracy",
    "f1_macro",
    "f1_micro",
    "f1",
    "precision",
    "recall",
    "matthews_correlation",
    "roc_auc",
)
FOR_NUMBERS = ("mse", "mae", "pearsonr", "spearmanr")
REPORTED = {
    SINGLE: ("accuracy", "f1_macro", "f1_micro", "matthews_correlation"),
    MULTI: ("accuracy", "f1_macro", "f1_micro"),
    REGRESSION: FOR_NUMBERS,
}
ON_REQUEST = (
    "f1",
    "precision",
    "recall",
)  # of one class, or averaged: computed where --metric_name names them
CORRELATIONS = ("pearsonr", "spearmanr")
RESERVED = ("macro", "micro", "low", "high")  # after a metric's name these words are no class
HEADLINE = {SINGLE: "accuracy", MULTI: "f1_micro", REGRESSION: "mse"}


def also_compute(arguments: Any, best: str | None) -> None:
    """Lets a classifier's --metric_for_best_model f1 be --metric_name f1, too: by itself nobody would compute it."""
    name = (best or "").removeprefix("eval_")
    if name in ON_REQUEST and hasattr(arguments, "metric_name"):
        arguments.metric_name = arguments.metric_name or name


def compute(name: str, predictions: Array, references: Array, **options: Any) -> float:
    """One metric of FOR_LABELS or FOR_NUMBERS as a float."""
    from recipes.common.metrics.sklearn_metrics import ScikitMetric

    return ScikitMetric(name).compute(predictions=predictions, references=references, **options)[
        name
    ]


def for_labels(labels: Labels, metric_name: str | None) -> Callable[[Any], dict[str, float]]:
    """A compute_metrics for Trainer: (predictions, label_ids) -> scores, intervals and the baseline's scores.

    The baseline gives one answer, taken from the training labels, to every text. Rows without a label are left out.
    """
    _check_name(labels.kind, metric_name)

    def compute_metrics(prediction: Any) -> dict[str, float]:
        logits, references = prediction.predictions, prediction.label_ids
        logits = logits[0] if isinstance(logits, tuple) else logits
        present = _present(references, labels.kind)
        if not present.any():
            return {}
        logits, references = logits[present], references[present]
        scores = _scores(labels, logits, references, metric_name)
        # Trainer's own is a mean over batches, in which rows that fill up the last ones count twice.
        scores["loss"] = float(row_losses(logits, references, labels.kind).mean())
        return scores | _baseline_scores(labels, references)

    return compute_metrics


def names(labels: Labels) -> frozenset[str]:
    """All that `for_labels` may return for these labels."""
    whole = (*FOR_LABELS, *FOR_NUMBERS, "cross_entropy")
    found = {f"{name}{bound}" for name in whole for bound in ("", "_low", "_high")}
    classes = [*labels.names, *(f"{name}_class" for name in RESERVED)]
    return frozenset(
        found
        | {
            f"{name}_{one}"
            for name in ("precision", "recall", "f1", *FOR_NUMBERS)
            for one in classes
        }
    )


def probabilities(logits: Array, kind: str) -> Array:
    """Softmax over the classes, a sigmoid for each of several labels, the number itself for regression."""
    logits = numpy.asarray(logits, dtype=numpy.float64)
    return {SINGLE: partial(softmax, axis=-1), MULTI: expit}.get(kind, lambda values: values)(
        logits
    )


def decisions(logits: Array, kind: str) -> Array:
    """The class of the highest score; 1 for each label above one half; the number (or numbers) for regression."""
    if kind == SINGLE:
        return numpy.argmax(logits, axis=-1)
    logits = numpy.asarray(logits)
    if kind == MULTI:
        return (logits > 0).astype(int)
    return logits.reshape(-1) if logits.shape[-1] == 1 else logits


def row_losses(logits: Array, references: Array, kind: str) -> Array:
    """How wrong each row is: cross entropy in nats (for several labels their mean), or the mean squared error."""
    logits = numpy.asarray(logits, dtype=numpy.float64)
    if kind == REGRESSION:
        return numpy.square(_by_row(logits) - _by_row(references)).mean(axis=1)
    if kind == MULTI:
        return (numpy.logaddexp(0, logits) - logits * references).mean(axis=-1)
    normalized = logits - numpy.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return -normalized[numpy.arange(len(references)), references.astype(int)]


def bootstrap(
    rows: Array, statistic: Callable[[Array], Array], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of column sums, rows drawn with replacement (Efron 1979).

    rows: [n, columns], what each row adds to the sums; statistic: [draws, columns] -> [draws].
    """
    generator = numpy.random.default_rng(seed)
    number = len(rows)
    values = []
    for _ in range(0, draws, 100):
        weights = generator.multinomial(number, numpy.full(number, 1 / number), size=100)
        values.append(statistic(weights @ rows))
    low, high = numpy.percentile(numpy.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


def _check_name(kind: str, metric_name: str | None) -> None:
    allowed = FOR_NUMBERS if kind == REGRESSION else FOR_LABELS
    if kind == MULTI:
        allowed = [name for name in allowed if name != "matthews_correlation"]
    if metric_name and metric_name not in allowed:
        fix = did_you_mean(metric_name, allowed, f"use one of {', '.join(sorted(allowed))}")
        raise Refusal(
            f"no metric {metric_name!r} for {kind.replace('_', ' ')}", "--metric_name", fix
        )


def _present(references: Array, kind: str) -> Array:
    if kind == REGRESSION:
        return ~numpy.isnan(_by_row(references)).any(axis=1)
    return (references != MISSING).all(axis=-1) if kind == MULTI else references != MISSING


def _by_row(numbers: Array) -> Array:
    """Numbers as [rows, numbers a row]."""
    return numbers.reshape(len(numbers), -1)


def _scores(
    labels: Labels, logits: Array, references: Array, metric_name: str | None
) -> dict[str, float]:
    kind, predictions = labels.kind, decisions(logits, labels.kind)
    if kind == REGRESSION and labels.names:
        return _scores_of_numbers(labels, predictions, references)
    defined = [
        name
        for name in REPORTED[kind]
        if name not in CORRELATIONS or _varies(predictions, references)
    ]
    scores = {name: compute(name, predictions, references) for name in defined}
    if metric_name and metric_name not in scores and metric_name != "roc_auc":
        binary = kind == SINGLE and len(labels.names) == 2
        options = {"average": "binary" if binary else "micro" if kind == MULTI else "macro"}
        scores[metric_name] = compute(metric_name, predictions, references, **options)
    if kind != REGRESSION:
        scores["cross_entropy"] = float(row_losses(logits, references, kind).mean())
        scores |= _area(kind, logits, references)
        scores |= _per_class(labels, predictions, references)
    for name, (rows, statistic) in _intervals(labels, predictions, references):
        scores[f"{name}_low"], scores[f"{name}_high"] = bootstrap(rows, statistic)
    return scores


def _scores_of_numbers(labels: Labels, predictions: Array, references: Array) -> dict[str, float]:
    """The scores of each of several numbers a row, and their means; a correlation that is not defined is left out."""
    scores: dict[str, float] = {}
    for name in FOR_NUMBERS:
        found = {}
        for place, number in enumerate(labels.names):
            columns = predictions[:, place], references[:, place]
            if name not in CORRELATIONS or _varies(*columns):
                found[f"{name}_{number}"] = compute(name, *columns)
        if found:
            scores |= {name: sum(found.values()) / len(found)} | found
    for name, (rows, statistic) in _intervals(labels, predictions, references):
        scores[f"{name}_low"], scores[f"{name}_high"] = bootstrap(rows, statistic)
    return scores


def _varies(predictions: Array, references: Array) -> bool:
    """Correlation needs two different values on either side."""
    return len(numpy.unique(predictions)) > 1 and len(numpy.unique(references)) > 1


def _area(kind: str, logits: Array, references: Array) -> dict[str, float]:
    """ROC-AUC, where every class occurs: elsewhere it is not defined."""
    classes = logits.shape[-1]
    found = [references[:, column] for column in range(classes)] if kind == MULTI else [references]
    if any(len(numpy.unique(column)) < (2 if kind == MULTI else classes) for column in found):
        return {}
    scores = probabilities(logits, kind)
    options = {"multi_class": "ovr"} if kind == SINGLE and classes > 2 else {}
    scores = scores[:, 1] if kind == SINGLE and classes == 2 else scores
    return {"roc_auc": compute("roc_auc", scores, references, **options)}


def _per_class(labels: Labels, predictions: Array, references: Array) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    numbers = list(range(len(labels.names)))
    table = precision_recall_fscore_support(
        references, predictions, labels=numbers, zero_division=0
    )
    names = [f"{name}_class" if name in RESERVED else name for name in labels.names]
    named = zip(("precision", "recall", "f1"), table, strict=False)
    return {
        f"{metric}_{name}": float(row[i]) for metric, row in named for i, name in enumerate(names)
    }


def _intervals(
    labels: Labels, predictions: Array, references: Array
) -> Iterator[tuple[str, tuple[Array, Callable[[Array], Array]]]]:
    """For each metric with an interval: what every row adds to its sums, and the metric as a function of the sums."""
    if labels.kind == REGRESSION:
        errors = row_losses(predictions, references, REGRESSION)[:, None]
        yield "mse", (errors, lambda sums: sums[:, 0] / len(errors))
        return
    numbers = numpy.arange(len(labels.names))
    predicted = (
        predictions[:, None] == numbers if labels.kind == SINGLE else predictions.astype(bool)
    )
    true = references[:, None] == numbers if labels.kind == SINGLE else references.astype(bool)
    right = (predicted == true).all(axis=1)[:, None].astype(float)
    yield "accuracy", (right, lambda sums: sums[:, 0] / len(right))
    if (
        labels.kind == SINGLE
    ):  # as scikit-learn has it, a class that neither occurs nor is given counts in no mean
        found = (predicted | true).any(axis=0)
        predicted, true = predicted[:, found], true[:, found]
    counts = numpy.concatenate([predicted & true, predicted, true], axis=1).astype(float)
    yield "f1_macro", (counts, lambda sums: _f1(sums).mean(axis=1))
    if labels.kind == MULTI:
        totals = counts.reshape(len(counts), 3, -1).sum(axis=2)
        yield "f1_micro", (totals, lambda sums: _f1(sums)[:, 0])


def _f1(sums: Array) -> Array:
    """[draws, 3 * classes] sums of hits, predictions and references -> [draws, classes] F1 scores."""
    hits, predicted, true = numpy.split(sums, 3, axis=1)
    return 2 * hits / numpy.maximum(predicted + true, 1)


def _baseline_scores(labels: Labels, references: Array) -> dict[str, float]:
    constant = numpy.broadcast_to(labels.baseline, references.shape)
    names = {
        SINGLE: ("accuracy", "f1_macro"),
        MULTI: ("f1_micro", "f1_macro"),
        REGRESSION: ("mse",),
    }[labels.kind]
    if labels.kind == REGRESSION:
        constant, references = constant.reshape(-1), references.reshape(-1)
    return {f"baseline_{name}": compute(name, constant, references) for name in names}
