"""Defines the task of models that label or rate texts.

A run shows predictions with scores, the worst errors and a confusion matrix.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
from transformers.trainer_utils import PredictionOutput

from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.data.splits import Splits
from recipes.common.metrics import classification
from recipes.common.report import markdown
from recipes.common.report.task import Row, Task, cell
from recipes.common.train.losses import Loss

MOST_NAMED = 20  # classes that the model card names
MAX_CLASSES = 30  # a larger matrix cannot be read
PIPELINE = "from transformers import pipeline\n\n"
USE = PIPELINE + 'pipeline("text-classification", model="{folder}")("a text")'
ADAPTED = PIPELINE + (
    'pipeline("text-classification", model="{folder}", config="{folder}/config")("a text")'
)


def task(
    splits: Splits,
    loss: Loss,
    compute_metrics: Callable[..., dict[str, float]],
    data_collator: Callable[..., Any],
    headline: str | None = None,
) -> Task:
    """Returns the task of a classifier, or of a model that rates."""
    labels = splits.known_labels
    scores = classification.SCORES[labels.kind]
    named = ", ".join(map(markdown.code, labels.names[:MOST_NAMED])) or "a number"
    baseline = "always the most frequent answer"
    if labels.kind == REGRESSION:
        baseline = "always the mean"
    return Task(
        loss=loss,
        compute_metrics=compute_metrics,
        data_collator=data_collator,
        headline=headline or scores.headline,
        shown=scores.shown,
        known=classification.names(labels),
        rows=lambda split, output: rows_of(splits, split, output),
        tag="text-classification",
        what="A text classifier",
        answers=f"It answers with {named}.",
        use=USE,
        adapted=ADAPTED,
        baseline=baseline,
        examples=worst_errors,
        plot=lambda folder, rows: confusion_matrix(folder / "confusion_matrix.png", rows, labels),
    )


def rows_of(splits: Splits, split: str, output: PredictionOutput) -> list[Row]:
    """Returns a row per text: id, texts, label, prediction, scores and loss."""
    data, labels = dict(splits.items())[split], splits.known_labels
    logits = classification.arrays_of(output.predictions)[0]
    scores = classification.probabilities(logits, labels.kind)
    references: list[Any] = [None] * len(data)
    losses: Any = references
    if output.label_ids is not None:
        (encoded,) = classification.arrays_of(output.label_ids)
        references = [_reference(labels, row) for row in encoded]
        losses = classification.row_losses(logits, _present(labels, encoded), labels.kind)
    rows = []
    for position, texts in enumerate(data.select_columns(["row_id", *splits.texts])):
        reference, prediction = references[position], answer(labels, logits[position])
        row = {**texts, "label": reference, "prediction": prediction}
        if labels.kind != REGRESSION:
            row["scores"] = _rounded(labels.names, scores[position])
        if reference is not None:
            row["loss"] = round(float(losses[position]), 6)
        rows.append(row)
    return rows


def _present(labels: Labels, encoded: numpy.ndarray) -> numpy.ndarray:
    """Returns labels with which a loss can be computed; the loss of a row without one is not
    used."""
    if labels.kind == SINGLE:
        return numpy.maximum(encoded, 0)
    return numpy.nan_to_num(encoded)


def _rounded(names: Sequence[str], scores: numpy.ndarray) -> dict[str, float]:
    return {name: round(float(score), 6) for name, score in zip(names, scores, strict=True)}


def answer(labels: Labels, logits: numpy.ndarray) -> str | list[str] | float | dict[str, float]:
    """Returns what the model says: a class, the labels above one half, or one or several
    numbers."""
    if labels.kind == REGRESSION:
        return _numbers(labels, logits)
    decision = classification.decisions(logits, labels.kind)
    if labels.kind == MULTI:
        return _chosen(labels, decision)
    return labels.names[int(decision)]


def _reference(labels: Labels, encoded: Any) -> str | list[str] | float | dict[str, float] | None:
    """Returns the label of a row as people read it, or None."""
    if labels.kind == REGRESSION:
        is_missing = numpy.isnan(encoded).any()
        return None if is_missing else _numbers(labels, encoded)
    if numpy.min(encoded) < 0:
        return None
    if labels.kind == MULTI:
        return _chosen(labels, encoded)
    return labels.names[int(encoded)]


def _numbers(labels: Labels, values: Any) -> float | dict[str, float]:
    numbers = [float(value) for value in numpy.ravel(values)]
    if len(numbers) == 1:
        return numbers[0]
    return dict(zip(labels.names, numbers, strict=True))


def _chosen(labels: Labels, decision: Any) -> list[str]:
    return [name for name, one in zip(labels.names, decision, strict=True) if one]


def worst_errors(rows: list[Row], split: str, most: int = 10) -> str:
    """Returns a table of the wrong predictions with the largest losses."""
    labelled = [row for row in rows if row.get("label") is not None]
    wrong = [row for row in labelled if row["prediction"] != row["label"]]
    worst = sorted(wrong, key=lambda row: -row["loss"])[:most]
    if not worst:
        return ""
    title = f"Worst errors on {split} ({len(wrong):,} of {len(rows):,} rows are wrong)"
    if isinstance(worst[0]["label"], float | dict):
        title = f"Largest errors on {split}"
    lines = [f"## {title}\n"]
    lines += ["| row | text | label | prediction | loss |", "|---|---|---|---|---|"]
    lines += [_error(row) for row in worst]
    return "\n".join(lines) + "\n"


def _error(row: Row) -> str:
    known = ("row_id", "label", "prediction", "scores", "loss")
    texts = [str(value) for key, value in row.items() if key not in known]
    cells = [" / ".join(texts), _short(row["label"]), _short(row["prediction"])]
    shown = " | ".join(map(cell, cells))
    return f"| {row['row_id']} | {shown} | {row['loss']:.2f} |"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(number)}" for name, number in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def confusion_matrix(path: Path, rows: list[Row], labels: Labels) -> list[Path]:
    """Draws how often each label got each prediction; nothing where the classes do not fit into a
    plot."""
    from matplotlib import pyplot
    from sklearn import metrics

    names = list(labels.names)
    rows = [row for row in rows if row.get("label") is not None]
    if labels.kind != SINGLE or not rows or len(names) > MAX_CLASSES:
        return []
    known = [row["label"] for row in rows]
    predicted = [row["prediction"] for row in rows]
    counts = metrics.confusion_matrix(known, predicted, labels=names)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = max(4.0, 0.5 * len(names) + 2)
    figure, axes = pyplot.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in numpy.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, count, ha="center", va="center", color=color)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set(xlabel="prediction", ylabel="label")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return [path]
