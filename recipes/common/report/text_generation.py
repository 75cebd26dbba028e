"""Defines the task of models that answer a text with a text.

A run writes every answer beside its reference, and shows the first and the worst ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PredictionOutput

from recipes.common.data.splits import Splits
from recipes.common.metrics import generated_text, language_modeling
from recipes.common.metrics.classification import arrays_of
from recipes.common.report.task import Row, Task, cell, with_bounds
from recipes.common.report.token_prediction import TOKEN_SCORES
from recipes.common.train.generation import TextGeneration
from recipes.common.train.losses import Loss

LOAD = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer{more}

tokenizer = AutoTokenizer.from_pretrained("{{folder}}")
model = AutoModelForSeq2SeqLM.from_pretrained("{{folder}}")
"""
SETTINGS = 'model.generation_config = GenerationConfig.from_pretrained("{folder}/config")\n'
WRITE = """prompt = getattr(model.generation_config, "prefix", "") + "a text"
ids = model.generate(**tokenizer(prompt, return_tensors="pt"))
print(tokenizer.batch_decode(ids)[0])"""


def task(
    tag: str,
    splits: Splits,
    decode: generated_text.Decoder,
    generation: TextGeneration,
    loss: Loss,
    compute_metrics: Callable[..., dict[str, float]],
    data_collator: Callable[..., Any],
    headline: str,
    shown: Sequence[str],
    answers: str = "",
) -> Task:
    """Returns the task of a model that translates, summarizes or the like."""
    leads = {f"lead{count}_{name}" for count in (1, 3) for name in shown}
    return Task(
        loss=loss,
        compute_metrics=compute_metrics,
        data_collator=data_collator,
        reduce_logits=language_modeling.token_sums(shift=False),
        generation=generation,
        headline=headline,
        shown=tuple(shown),
        known=with_bounds((*shown, *TOKEN_SCORES)) | leads,
        rows=lambda split, output: rows_of(splits, decode, split, output),
        tag=tag,
        what=f"A model for {tag}",
        use=LOAD.format(more="") + WRITE,
        adapted=LOAD.format(more=", GenerationConfig") + SETTINGS + WRITE,
        answers=answers,
        baseline="the source as it is, or its first sentences",
        examples=first_and_worst,
        plot=lambda folder, rows: lengths(folder / "lengths.png", rows),
    )


def rows_of(
    splits: Splits, decode: generated_text.Decoder, split: str, output: PredictionOutput
) -> list[Row]:
    """Returns a row per text: id, source, reference (null where there is none), prediction, loss
    (nats per token)."""
    (source,) = splits.texts
    data = dict(splits.items())[split]
    totals, *others = arrays_of(output.predictions)
    answers: Sequence[str | None] = [None] * len(data)
    if others:
        (generated,) = others
        answers = decode(generated)
    rows = []
    for row, answer, (loss, _, count) in zip(data, answers, totals, strict=True):
        reference = row[splits.target] or None
        described = {"row_id": row["row_id"], "source": row[source]}
        described |= {"reference": reference, "prediction": answer}
        if reference and count:
            described["loss"] = round(float(loss / count), 6)
        rows.append(described)
    return rows


def first_and_worst(rows: list[Row], split: str, most: int = 5) -> str:
    """Returns a table of the first texts, and one of those whose references were the least
    expected."""
    scored = [row for row in rows if "loss" in row]
    worst = sorted(scored, key=lambda row: -row["loss"])[:most]
    sections = [_table(f"First answers on {split}", rows[:most])]
    if worst:
        sections.append(_table("The least expected references", worst))
    return "\n".join(sections)


def _table(title: str, rows: list[Row]) -> str:
    lines = [f"## {title}\n", "| row | source | reference | prediction |", "|---|---|---|---|"]
    for row in rows:
        texts = (row["source"], row["reference"] or "–", row["prediction"] or "")
        lines.append(f"| {row['row_id']} | {' | '.join(map(cell, texts))} |")
    return "\n".join(lines) + "\n"


def lengths(path: Path, rows: list[Row]) -> list[Path]:
    """Draws how long predictions and references are, in words (characters where a script has no
    spaces)."""
    from matplotlib import pyplot

    found = {name: _lengths_of(rows, name) for name in ("reference", "prediction")}
    most = max((max(values, default=0) for values in found.values()), default=0)
    if not any(found.values()):
        return []
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    labels = [f"{name}s" for name in found]
    axes.hist(list(found.values()), bins=min(30, most + 1), label=labels)
    axes.set(xlabel="words (characters where there are no spaces)", ylabel="rows")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return [path]


def _lengths_of(rows: list[Row], name: str) -> list[int]:
    texts = [row[name] for row in rows if row[name]]
    return [len(generated_text.units(text)) for text in texts]
