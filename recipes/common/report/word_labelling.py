"""Defines the task of models that label words.

A run shows the entities of every row, the worst errors and a confusion matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PredictionOutput

from recipes.common.data import entity_labels
from recipes.common.data.labels import MISSING, SINGLE, Labels
from recipes.common.data.splits import Splits
from recipes.common.metrics import entities
from recipes.common.metrics.classification import arrays_of
from recipes.common.report import labelling, markdown
from recipes.common.report.task import Row, Task, cell
from recipes.common.tokens.encoding import Tokens
from recipes.common.tokens.words import first_pieces
from recipes.common.train.losses import Loss

USE = labelling.PIPELINE + (
    'pipeline("token-classification", model="{folder}", aggregation_strategy="first")("a text")'
)
ADAPTED = USE.replace('model="{folder}"', 'model="{folder}", config="{folder}/config"')


def task(
    splits: Splits,
    encoded: Tokens,
    loss: Loss,
    compute_metrics: Callable[..., dict[str, float]],
    data_collator: Callable[..., Any],
    headline: str | None = None,
) -> Task:
    """Returns the task of a model that labels each word of a text."""
    labels = splits.known_labels
    shown = entities.shown(labels)
    named = ", ".join(map(markdown.code, labels.names[: labelling.MOST_NAMED]))
    return Task(
        loss=loss,
        compute_metrics=compute_metrics,
        data_collator=data_collator,
        reduce_logits=entities.best_labels,
        headline=headline or shown[0],
        shown=shown,
        known=entities.names(labels),
        rows=lambda split, output: rows_of(splits, encoded, split, output),
        tag="token-classification",
        what="A model that labels words",
        answers=f"It answers with one label per word: {named}.",
        use=USE,
        adapted=ADAPTED,
        baseline="each word as it is labelled most often in the training data",
        examples=worst_errors,
        plot=lambda folder, rows: confusion_matrix(folder / "confusion_matrix.png", rows, labels),
    )


def rows_of(splits: Splits, encoded: Tokens, split: str, output: PredictionOutput) -> list[Row]:
    """Returns a row per sentence: id, words, label, prediction and score of each word.

    A word that was cut off, or of which the tokenizer leaves nothing, has the most frequent label
    and no score.
    """
    data, labels = dict(splits.items())[split], splits.known_labels
    best, probabilities, _ = arrays_of(output.predictions)
    tokens = dict(vars(encoded))[split]["word_ids"][:]
    has_labels = "labels" in data.column_names
    rows = []
    for position, row in enumerate(data):
        words = row[splits.texts[0]]
        pieces = first_pieces(tokens[position])
        found: list[int] = []
        scores: list[float | None] = []
        for place in range(len(words)):
            piece = pieces.get(place)
            if piece is None:
                found.append(entities.most_frequent(labels))
                scores.append(None)
            else:
                found.append(int(best[position][piece]))
                scores.append(round(float(probabilities[position][piece]), 6))
        known = row["labels"] if has_labels else []
        rows.append(
            {
                "row_id": row["row_id"],
                splits.texts[0]: words,
                "label": [_name(labels, label) for label in known] or None,
                "prediction": [labels.names[label] for label in found],
                "scores": scores,
            }
        )
    return rows


def _name(labels: Labels, label: int) -> str | None:
    return None if label == MISSING else labels.names[label]


def worst_errors(rows: list[Row], split: str, most: int = 10) -> str:
    """Returns a table of the rows with the most wrong words."""
    labelled = [row for row in rows if row["label"]]
    names = {name for row in labelled for name in (*row["label"], *row["prediction"]) if name}
    of_entities = entity_labels.are_entities(names)
    wrong = [row for row in labelled if _wrong(row)]
    worst = sorted(wrong, key=lambda row: -_wrong(row))[:most]
    if not worst:
        return ""
    title = f"Worst errors on {split} ({len(wrong):,} of {len(labelled):,} rows have wrong words)"
    lines = [f"## {title}\n", "| row | text | label | prediction |", "|---|---|---|---|"]
    for row in worst:
        words = next(value for key, value in row.items() if key != "row_id")
        shown = [" ".join(words)]
        for labels in (row["label"], row["prediction"]):
            shown.append(marked(words, labels, of_entities))
        lines.append(f"| {row['row_id']} | {' | '.join(map(cell, shown))} |")
    return "\n".join(lines) + "\n"


def _wrong(row: Row) -> int:
    """Returns how many words of a row have a wrong label."""
    pairs = zip(row["label"], row["prediction"], strict=True)
    return sum(label is not None and label != prediction for label, prediction in pairs)


def marked(words: Sequence[str], labels: Sequence[str | None], of_entities: bool) -> str:
    """Returns what is labelled in a sentence: its entities with their types, or word/label."""
    named = [label or entity_labels.OUTSIDE for label in labels]
    if not of_entities:
        return " ".join(f"{word}/{name}" for word, name in zip(words, named, strict=True))
    found = []
    for kind, first, last in entities.entities(named):
        found.append(f"{' '.join(words[first : last + 1])} ({kind})")
    return ", ".join(found) or "nothing"


def confusion_matrix(path: Path, rows: list[Row], labels: Labels) -> list[Path]:
    """Draws how often the words of each label got each prediction."""
    words: list[Row] = []
    for row in rows:
        for label, prediction in zip(row["label"] or (), row["prediction"], strict=False):
            words.append({"label": label, "prediction": prediction})
    return labelling.confusion_matrix(path, words, replace(labels, kind=SINGLE))
