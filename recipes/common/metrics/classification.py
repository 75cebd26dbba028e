"""Scores classifiers and models that rate texts, with bootstrap intervals and a baseline.

The metrics are scikit-learn's and need no network.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
from scipy.special import expit, softmax

from recipes.common.data.labels import MISSING, MULTI, REGRESSION, SINGLE, Labels
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean

if TYPE_CHECKING:
    from transformers import EvalPrediction


Array = numpy.ndarray
Arrays = Array | tuple[Array, ...]  # what Trainer collects: one array, or several
Statistic = Callable[[Array], Array]  # sums of columns [draws, columns] -> values [draws]
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
PER_CLASS = ("precision", "recall", "f1")
CORRELATIONS = ("pearsonr", "spearmanr")
RESERVED = ("macro", "micro", "low", "high")  # behind a metric's name these do not name a class


class Scores(NamedTuple):
    """Holds the names of the metrics that labels of one kind have."""

    headline: str  # it chooses the best model
    of_answers: tuple[str, ...]  # computed from the answers alone
    of_baseline: tuple[str, ...]
    shown: tuple[str, ...]  # in the closing table, the most important first


SCORES = {
    SINGLE: Scores(
        headline="accuracy",
        of_answers=("accuracy", "f1_macro", "f1_micro", "matthews_correlation"),
        of_baseline=("accuracy", "f1_macro"),
        # f1_micro is not shown: with one label per row it is the accuracy.
        shown=("accuracy", "f1_macro", "matthews_correlation", "roc_auc", "cross_entropy"),
    ),
    MULTI: Scores(
        headline="f1_micro",
        of_answers=("accuracy", "f1_macro", "f1_micro"),
        of_baseline=("f1_micro", "f1_macro"),
        shown=("accuracy", "f1_macro", "f1_micro", "roc_auc", "cross_entropy"),
    ),
    REGRESSION: Scores(
        headline="mse", of_answers=FOR_NUMBERS, of_baseline=("mse",), shown=FOR_NUMBERS
    ),
}


def compute(name: str, predictions: Array, references: Array, **options: Any) -> float:
    """Returns one metric of FOR_LABELS or FOR_NUMBERS."""
    from recipes.common.metrics.sklearn_metrics import ScikitMetric

    metric = ScikitMetric(name)
    return metric.compute(predictions=predictions, references=references, **options)[name]


def for_labels(
    labels: Labels, metric_name: str | None
) -> Callable[["EvalPrediction"], dict[str, float]]:
    """Returns a compute_metrics for Trainer: scores, their intervals, and the baseline's scores.

    The baseline gives every text the same answer, which it takes from the training labels. Rows
    without a label are left out.
    """
    _check_name(labels.kind, metric_name)

    def compute_metrics(prediction: "EvalPrediction") -> dict[str, float]:
        logits = arrays_of(prediction.predictions)[0]
        (references,) = arrays_of(prediction.label_ids)
        present = _present(references, labels.kind)
        if not present.any():
            return {}
        logits, references = logits[present], references[present]
        scores = _scores(labels, logits, references, metric_name)
        # Trainer's loss is a mean of batches: rows that fill up the last batches count twice.
        scores["loss"] = float(row_losses(logits, references, labels.kind).mean())
        return scores | _baseline_scores(labels, references)

    return compute_metrics


def arrays_of(collected: Arrays) -> tuple[Array, ...]:
    """Returns the arrays of Trainer's predictions or labels, however many they are.

    transformers declares a tuple of one array where there may be several.
    """
    return collected if isinstance(collected, tuple) else (collected,)


def names(labels: Labels) -> frozenset[str]:
    """Returns the names of the scores that `for_labels` computes for these labels without a
    request.
    """
    scores, found = SCORES[labels.kind], set()
    for name in (*scores.of_answers, *scores.shown):
        found |= {name, f"{name}_low", f"{name}_high"}
    classes = [*labels.names, *map(name_of_class, RESERVED)]
    for name in (*PER_CLASS, *FOR_NUMBERS):
        found.update(f"{name}_{one}" for one in classes)
    return frozenset(found)


def probabilities(logits: Array, kind: str) -> Array:
    """Returns the softmax over the classes.

    With several labels it is a sigmoid for each label. Numbers of a regression stay as they are.
    """
    logits = numpy.asarray(logits, dtype=numpy.float64)
    if kind == SINGLE:
        return softmax(logits, axis=-1)
    if kind == MULTI:
        return expit(logits)
    return logits


def decisions(logits: Array, kind: str) -> Array:
    """Returns the most probable class of each row.

    With several labels it is a 1 for each label above one half. Numbers stay as they are: [rows]
    where there is one per row, else [rows, numbers].
    """
    if kind == SINGLE:
        return numpy.argmax(logits, axis=-1)
    logits = numpy.asarray(logits)
    if kind == MULTI:
        return (logits > 0).astype(int)
    if logits.shape[-1] == 1:
        return logits.reshape(-1)
    return logits


def row_losses(logits: Array, references: Array, kind: str) -> Array:
    """Returns the loss of each row: its cross entropy in nats.

    With several labels it is the mean over the labels. With numbers it is their mean squared error.
    """
    logits = numpy.asarray(logits, dtype=numpy.float64)
    if kind == REGRESSION:
        return numpy.square(_by_row(logits) - _by_row(references)).mean(axis=1)
    if kind == MULTI:
        return (numpy.logaddexp(0, logits) - logits * references).mean(axis=-1)
    normalized = logits - numpy.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return -normalized[numpy.arange(len(references)), references.astype(int)]


def bootstrap(
    rows: Array, statistic: Statistic, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a statistic of column sums (Efron 1979).

    Rows are drawn with replacement. `rows` [n, columns] is what each row adds to the sums.
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
    allowed = list(FOR_LABELS)
    if kind == REGRESSION:
        allowed = list(FOR_NUMBERS)
    elif kind == MULTI:
        allowed.remove("matthews_correlation")
    if metric_name and metric_name not in allowed:
        what = f"no metric {metric_name!r} for {kind.replace('_', ' ')}"
        fix = did_you_mean(metric_name, allowed, f"use one of {', '.join(sorted(allowed))}")
        raise Refusal(what, "--metric_name", fix)


def _present(references: Array, kind: str) -> Array:
    """Returns for each row whether it has a label."""
    if kind == REGRESSION:
        return ~numpy.isnan(_by_row(references)).any(axis=1)
    if kind == MULTI:
        return (references != MISSING).all(axis=-1)
    return references != MISSING


def _by_row(numbers: Array) -> Array:
    """Returns numbers as [rows, numbers per row]."""
    return numbers.reshape(len(numbers), -1)


def _scores(
    labels: Labels, logits: Array, references: Array, metric_name: str | None
) -> dict[str, float]:
    kind = labels.kind
    predictions = decisions(logits, kind)
    if kind == REGRESSION and labels.names:
        scores = _scores_of_columns(labels.names, predictions, references)
        return scores | _intervals(labels, predictions, references)
    scores = {}
    for name in SCORES[kind].of_answers:
        if _is_defined(name, predictions, references):
            scores[name] = compute(name, predictions, references)
    if metric_name in CORRELATIONS and metric_name not in scores:
        scores[metric_name] = 0.0  # it chooses the best model: equal predictions score 0
    if metric_name and metric_name not in scores and metric_name != "roc_auc":
        average = _average(labels)
        scores[metric_name] = compute(metric_name, predictions, references, average=average)
    if kind != REGRESSION:
        scores["cross_entropy"] = float(row_losses(logits, references, kind).mean())
        scores |= _area(kind, logits, references)
        scores |= _scores_per_class(labels, predictions, references)
    return scores | _intervals(labels, predictions, references)


def _scores_of_columns(
    names: Sequence[str], predictions: Array, references: Array
) -> dict[str, float]:
    """Returns the scores of each of several numbers per row, and their means.

    A correlation that is not defined is left out.
    """
    scores: dict[str, float] = {}
    for metric in FOR_NUMBERS:
        found = {}
        for place, name in enumerate(names):
            columns = predictions[:, place], references[:, place]
            if _is_defined(metric, *columns):
                found[f"{metric}_{name}"] = compute(metric, *columns)
        if found:
            scores[metric] = sum(found.values()) / len(found)
            scores |= found
    return scores


def _is_defined(metric: str, predictions: Array, references: Array) -> bool:
    """Whether a metric has a value: a correlation needs two different numbers on either side."""
    if metric not in CORRELATIONS:
        return True
    return len(numpy.unique(predictions)) > 1 and len(numpy.unique(references)) > 1


def _average(labels: Labels) -> str:
    """Returns scikit-learn's name of how the classes are averaged.

    Of two classes only the second one counts, as in Hugging Face's scripts.
    """
    if labels.kind == MULTI:
        return "micro"
    if labels.kind == SINGLE and len(labels.names) == 2:
        return "binary"
    return "macro"


def _area(kind: str, logits: Array, references: Array) -> dict[str, float]:
    """Returns ROC-AUC; nothing where a class does not occur, because it is not defined there."""
    classes = logits.shape[-1]
    scores = probabilities(logits, kind)
    if kind == MULTI:
        if any(len(numpy.unique(column)) < 2 for column in references.T):
            return {}
        return {"roc_auc": compute("roc_auc", scores, references)}
    if len(numpy.unique(references)) < classes:
        return {}
    if classes == 2:
        return {"roc_auc": compute("roc_auc", scores[:, 1], references)}
    return {"roc_auc": compute("roc_auc", scores, references, multi_class="ovr")}


def _scores_per_class(labels: Labels, predictions: Array, references: Array) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    classes = list(range(len(labels.names)))
    table = precision_recall_fscore_support(
        references, predictions, labels=classes, zero_division=0
    )
    scores = {}
    for metric, values in zip(PER_CLASS, table, strict=False):
        for name, value in zip(labels.names, values, strict=True):
            scores[f"{metric}_{name_of_class(name)}"] = float(value)
    return scores


def name_of_class(name: str) -> str:
    """Returns a class's name as it stands behind a metric's name."""
    if name in RESERVED:
        return f"{name}_class"
    return name


def _intervals(labels: Labels, predictions: Array, references: Array) -> dict[str, float]:
    found = {}
    for name, rows, statistic in _statistics(labels, predictions, references):
        found[f"{name}_low"], found[f"{name}_high"] = bootstrap(rows, statistic)
    return found


def _statistics(
    labels: Labels, predictions: Array, references: Array
) -> Iterator[tuple[str, Array, Statistic]]:
    """Yields the name of each metric with an interval, and the two arguments of its `bootstrap`.

    They are what each row adds to the sums, and the function from the sums to the metric.
    """
    if labels.kind == REGRESSION:
        errors = row_losses(predictions, references, REGRESSION)[:, None]
        yield "mse", errors, lambda sums: sums[:, 0] / len(errors)
        return
    predicted = _one_hot(labels, predictions)
    true = _one_hot(labels, references)
    right = (predicted == true).all(axis=1)[:, None].astype(float)
    yield "accuracy", right, lambda sums: sums[:, 0] / len(right)
    if labels.kind == SINGLE:
        # As in scikit-learn, a class that is neither a label nor predicted counts in no mean.
        found = (predicted | true).any(axis=0)
        predicted, true = predicted[:, found], true[:, found]
    counts = numpy.concatenate([predicted & true, predicted, true], axis=1).astype(float)
    yield "f1_macro", counts, lambda sums: _f1(sums).mean(axis=1)
    if labels.kind == MULTI:
        totals = counts.reshape(len(counts), 3, -1).sum(axis=2)
        yield "f1_micro", totals, lambda sums: _f1(sums)[:, 0]


def _one_hot(labels: Labels, classes: Array) -> Array:
    """Returns booleans [rows, classes]; several labels per row are one-hot already."""
    if labels.kind == MULTI:
        return classes.astype(bool)
    return classes[:, None] == numpy.arange(len(labels.names))


def _f1(sums: Array) -> Array:
    """Returns F1 scores [draws, classes].

    `sums` [draws, 3 * classes] holds hits, then predictions, then labels.
    """
    hits, predicted, true = numpy.split(sums, 3, axis=1)
    return 2 * hits / numpy.maximum(predicted + true, 1)


def _baseline_scores(labels: Labels, references: Array) -> dict[str, float]:
    constant = numpy.broadcast_to(labels.baseline, references.shape)
    if labels.kind == REGRESSION:
        constant, references = constant.reshape(-1), references.reshape(-1)
    scores = {}
    for name in SCORES[labels.kind].of_baseline:
        scores[f"baseline_{name}"] = compute(name, constant, references)
    return scores
