"""What each kind of task answers and shows: labels, tokens or texts. The rest of the report is the same for all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
import torch

from recipes.common.checkpoints import tensor_files
from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.data.splits import Splits
from recipes.common.metrics import classification, generated_text
from recipes.common.model import probes
from recipes.common.report import markdown
from recipes.common.tokens.encoding import Tokens

LABEL_SCORES = (
    "accuracy",
    "f1_macro",
    "f1_micro",
    "matthews_correlation",
    "roc_auc",
    "cross_entropy",
)
NUMBER_SCORES = ("mse", "mae", "pearsonr", "spearmanr")
TOKEN_SCORES = ("perplexity", "cross_entropy", "bits_per_byte", "accuracy")
# What Trainer adds to the metrics.
TRAINERS = {
    "loss",
    "samples",
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "model_preparation_time",
}
MAX_CLASSES = 30  # a larger matrix cannot be read
CONTINUATIONS, PROMPT, CONTINUATION = 3, 32, 64  # how many samples, and their lengths in tokens
TEMPERATURE = 0.8
LOAD = "from transformers import AutoTokenizer, {0}{1}\n\n"
LOAD += 'tokenizer, model = AutoTokenizer.from_pretrained("{{folder}}"), {0}.from_pretrained("{{folder}}")\n'
SETTINGS = 'model.generation_config = GenerationConfig.from_pretrained("{folder}/config")\n'
WRITE = 'prompt = getattr(model.generation_config, "prefix", "") + "a text"\n'
WRITE += (
    'print(tokenizer.batch_decode(model.generate(**tokenizer(prompt, return_tensors="pt")))[0])'
)


def with_bounds(names: Iterable[str]) -> frozenset[str]:
    """The names of these metrics and of the bounds of their intervals."""
    return frozenset(f"{name}{bound}" for name in names for bound in ("", "_low", "_high"))


def _no_plots(folder: Path, rows: list[dict]) -> list[Path]:
    return []


@dataclass(frozen=True)
class Task:
    """What the report needs to know of a task."""

    tag: str  # the Hub's name of the task
    what: str  # what the model is, in a few words
    use: str  # Python that uses the trained {folder}
    headline: str  # the metric that chooses the best model
    shown: tuple[str, ...]  # the metrics of the closing table, best first
    describe: Callable[
        [str, Any], list[dict[str, Any]]
    ]  # split and PredictionOutput -> rows of predictions.jsonl
    examples: Callable[
        [list[dict[str, Any]], str], str
    ]  # those rows (in other processes none) -> a part of the card
    plot: Callable[[Path, list[dict[str, Any]]], list[Path]] = (
        _no_plots  # draws the task's own plots
    )
    answers: str = ""  # what it answers with
    unit: str = "rows"  # what a batch is made of
    adapted: str = ""  # Python that uses the adapters in {folder}, where it is other than `use`
    baseline: str = "the simplest answer"  # what the scores are compared with
    known: frozenset[str] = frozenset()  # its metrics that are not shown, or in the card alone

    def others(self, scores: dict[str, float], prefixes: Iterable[str]) -> list[str]:
        """The metrics that only a compute_metrics of one's own can have returned; they are shown, too."""
        names = (
            name.removeprefix(f"{prefix}_")
            for prefix in prefixes
            for name in scores
            if name.startswith(f"{prefix}_")
        )
        others = {name: None for name in names if name not in {*self.shown, *self.known, *TRAINERS}}
        bounds = {f"{name}_{bound}" for name in others for bound in ("low", "high")}
        return [name for name in others if name not in bounds and not name.startswith("baseline_")]


def for_labels(splits: Splits, metric_name: str | None) -> Task:
    """A classifier, or a model that rates: predictions with scores, confusion matrix, worst errors."""
    labels = splits.labels
    shown = NUMBER_SCORES if labels.kind == REGRESSION else LABEL_SCORES
    if labels.kind == SINGLE:
        shown = tuple(
            name for name in shown if name != "f1_micro"
        )  # with one label a row it is the accuracy
    return Task(
        tag="text-classification",
        what="A text classifier",
        answers=f"It answers with {', '.join(map(markdown.code, labels.names[:20])) or 'a number'}.",
        use='from transformers import pipeline\n\npipeline("text-classification", model="{folder}")("a text")',
        adapted="from transformers import pipeline\n\n"
        + 'pipeline("text-classification", model="{folder}", config="{folder}/config")("a text")',
        headline=metric_name or classification.HEADLINE[labels.kind],
        shown=shown,
        known=classification.names(labels),
        baseline="always the mean"
        if labels.kind == REGRESSION
        else "always the most frequent answer",
        describe=_labelled_rows(splits),
        examples=_worst_errors,
        plot=lambda folder, rows: _confusion_matrix(folder / "confusion_matrix.png", rows, labels),
    )


def for_masks(tokens: Tokens, tokenizer: Any) -> Task:
    """A masked language model: loss and accuracy of every evaluated block, the hardest ones shown."""
    return Task(
        tag="fill-mask",
        what="A masked language model",
        use='from transformers import pipeline\n\npipeline("fill-mask", model="{folder}")("a text with a '
        + f'{tokenizer.mask_token} in it")',
        headline="perplexity",
        shown=TOKEN_SCORES,
        known=with_bounds(TOKEN_SCORES),
        baseline="each token by its frequency alone",
        describe=_block_rows(tokens, tokenizer),
        examples=_hardest_blocks,
        unit="blocks",
    )


def for_continuations(tokens: Tokens, tokenizer: Any, model: torch.nn.Module) -> Task:
    """A causal language model: loss and accuracy of every evaluated block, and how it goes on from a few of them."""
    return Task(
        tag="text-generation",
        what="A causal language model",
        use='from transformers import pipeline\n\npipeline("text-generation", model="{folder}")("A text begins")',
        headline="perplexity",
        shown=TOKEN_SCORES,
        known=with_bounds(TOKEN_SCORES),
        baseline="each token by its frequency alone",
        describe=_block_rows(tokens, tokenizer),
        examples=lambda rows, split: _continuations(
            getattr(tokens, split), tokenizer, model, split
        ),
        unit="blocks",
    )


def for_texts(
    splits: Splits,
    decode: Callable,
    tag: str,
    headline: str,
    shown: Sequence[str],
    answers: str = "",
) -> Task:
    """A model that answers a text with a text: every answer beside its reference, first and worst ones shown."""
    return Task(
        tag=tag,
        what=f"A model for {tag}",
        use=LOAD.format("AutoModelForSeq2SeqLM", "") + WRITE,
        adapted=LOAD.format("AutoModelForSeq2SeqLM", ", GenerationConfig") + SETTINGS + WRITE,
        headline=headline,
        shown=tuple(shown),
        baseline="the source as it is, or its first sentences",
        known=with_bounds((*shown, *TOKEN_SCORES))
        | {f"lead{count}_{name}" for count in (1, 3) for name in shown},
        answers=answers,
        describe=_answered_rows(splits, decode),
        examples=_answers,
        plot=lambda folder, rows: _lengths(folder / "lengths.png", rows),
    )


def _labelled_rows(splits: Splits) -> Callable[[str, Any], list[dict[str, Any]]]:
    """Makes the rows of predictions.jsonl for a classifier: id, texts, label, prediction, scores and loss of each."""

    def describe(split: str, output: Any) -> list[dict[str, Any]]:
        data, labels = dict(splits.items())[split], splits.labels
        logits = (
            output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
        )
        scores = classification.probabilities(logits, labels.kind)
        answers = [answer(labels, row) for row in logits]
        references, losses = [None] * len(data), [None] * len(data)
        if output.label_ids is not None:
            references = [_reference(labels, row) for row in output.label_ids]
            # Of a row without a label nobody reads the loss.
            known = (
                numpy.maximum(output.label_ids, 0)
                if labels.kind == SINGLE
                else numpy.nan_to_num(output.label_ids)
            )
            losses = classification.row_losses(logits, known, labels.kind)
        rows = []
        for position, texts in enumerate(data.select_columns(["row_id", *splits.texts])):
            row = {**texts, "label": references[position], "prediction": answers[position]}
            if labels.kind != REGRESSION:
                row["scores"] = {
                    name: round(float(scores[position][i]), 6)
                    for i, name in enumerate(labels.names)
                }
            if references[position] is not None:
                row["loss"] = round(float(losses[position]), 6)
            rows.append(row)
        return rows

    return describe


def answer(labels: Any, logits: numpy.ndarray) -> str | list[str] | float | dict[str, float]:
    """What the model says: a class, the list of labels above one half, a number, or several numbers by name."""
    if labels.kind == REGRESSION:
        return _numbers(labels, logits)
    decision = classification.decisions(logits, labels.kind)
    if labels.kind == MULTI:
        return [name for name, chosen in zip(labels.names, decision, strict=True) if chosen]
    return labels.names[int(decision)]


def _numbers(labels: Any, values: Any) -> float | dict[str, float]:
    numbers = [float(value) for value in numpy.ravel(values)]
    return numbers[0] if len(numbers) == 1 else dict(zip(labels.names, numbers, strict=True))


def _reference(labels: Any, encoded: Any) -> str | list[str] | float | dict[str, float] | None:
    if labels.kind == REGRESSION:
        return None if numpy.isnan(encoded).any() else _numbers(labels, encoded)
    if labels.kind == MULTI:
        return (
            None
            if min(encoded) < 0
            else [name for name, one in zip(labels.names, encoded, strict=True) if one]
        )
    return labels.names[int(encoded)] if encoded >= 0 else None


def _block_rows(tokens: Tokens, tokenizer: Any) -> Callable[[str, Any], list[dict[str, Any]]]:
    """Makes rows of id, text, predicted tokens, loss (nats a token) and accuracy of each block."""

    def describe(split: str, output: Any) -> list[dict[str, Any]]:
        rows = []
        for block, (loss, hits, count) in zip(
            getattr(tokens, split), output.predictions, strict=True
        ):
            text = tokenizer.decode(block["input_ids"], skip_special_tokens=True)
            row = {"row_id": block["row"], "text": text, "tokens": int(count)}
            mean = (
                {"loss": round(float(loss / count), 6), "accuracy": round(float(hits / count), 6)}
                if count
                else {}
            )
            rows.append(row | mean)
        return rows

    return describe


def _answered_rows(splits: Splits, decode: Callable) -> Callable[[str, Any], list[dict[str, Any]]]:
    """Makes rows of id, source text, reference (null where there is none), prediction and loss (nats a token)."""
    (source,) = splits.texts

    def describe(split: str, output: Any) -> list[dict[str, Any]]:
        totals, generated = (
            output.predictions
            if isinstance(output.predictions, tuple)
            else (output.predictions, None)
        )
        answers = [None] * len(totals) if generated is None else decode(generated)
        rows = []
        for row, answer, (loss, _, count) in zip(
            dict(splits.items())[split], answers, totals, strict=True
        ):
            reference = row[splits.target] or None
            described = {
                "row_id": row["row_id"],
                "source": row[source],
                "reference": reference,
                "prediction": answer,
            }
            rows.append(
                described | ({"loss": round(float(loss / count), 6)} if reference and count else {})
            )
        return rows

    return describe


def _worst_errors(rows: list[dict], split: str, most: int = 10) -> str:
    wrong = [
        row for row in rows if row.get("label") is not None and row["prediction"] != row["label"]
    ]
    worst = sorted(wrong, key=lambda row: -row["loss"])[:most]
    if not worst:
        return ""
    of_numbers = isinstance(worst[0]["label"], float | dict)
    title = "Largest errors" if of_numbers else "Worst errors"
    number = "" if of_numbers else f" ({len(wrong):,} of {len(rows):,} rows are wrong)"
    lines = [f"## {title} on {split}{number}\n"]
    lines += ["| row | text | label | prediction | loss |", "|---|---|---|---|---|"]
    for row in worst:
        known = ("row_id", "label", "prediction", "scores", "loss")
        text = _cell(" / ".join(str(value) for key, value in row.items() if key not in known))
        label, answer = _cell(_short(row["label"])), _cell(_short(row["prediction"]))
        lines.append(f"| {row['row_id']} | {text} | {label} | {answer} | {row['loss']:.2f} |")
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(number)}" for name, number in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _hardest_blocks(rows: list[dict], split: str, most: int = 5) -> str:
    worst = sorted((row for row in rows if "loss" in row), key=lambda row: -row["loss"])[:most]
    lines = [
        f"## Hardest blocks of {split}\n",
        "| block | text | tokens | loss | accuracy |",
        "|---|---|---|---|---|",
    ]
    for row in worst:
        lines.append(
            f"| {row['row_id']} | {_cell(row['text'])} | {row['tokens']} | {row['loss']:.2f} | {row['accuracy']:.1%} |"
        )
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def _continuations(blocks: Any, tokenizer: Any, model: torch.nn.Module, split: str) -> str:
    """How the model goes on from the first tokens of some blocks, drawn with a fixed seed.

    The most probable token each time would loop: a model of some minutes ends in "and the door, and the door, …".
    """
    lines = [
        f"## Continuations of {split} texts\n",
        "| text | model | text as it goes on |",
        "|---|---|---|",
    ]
    model.eval()
    positions, _ = probes.positions(model)
    with tensor_files.randomness_kept():
        torch.manual_seed(0)
        for block in islice(blocks, CONTINUATIONS):
            ids = torch.from_numpy(
                numpy.array(block["input_ids"], dtype=numpy.int64)
            )  # mapped ones are read-only
            prompt = ids[None, : min(PROMPT, len(ids) // 2 or 1)].to(model.device)
            written = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=int(min(CONTINUATION, positions - prompt.shape[1])),
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=50,
            )
            start = prompt.shape[1]
            parts = (prompt[0], written[0, start:], ids[start : start + CONTINUATION])
            lines.append(
                f"| {' | '.join(_cell(tokenizer.decode(part, skip_special_tokens=True)) for part in parts)} |"
            )
    return "\n".join(lines) + "\n"


def _answers(rows: list[dict], split: str, most: int = 5) -> str:
    worst = sorted((row for row in rows if "loss" in row), key=lambda row: -row["loss"])[:most]
    sections = []
    for title, chosen in (
        (f"## First answers on {split}\n", rows[:most]),
        ("## The least expected references\n", worst),
    ):
        lines = [title, "| row | source | reference | prediction |", "|---|---|---|---|"]
        for row in chosen:
            texts = (row["source"], row["reference"] or "–", row["prediction"] or "")
            lines.append(f"| {row['row_id']} | {' | '.join(map(_cell, texts))} |")
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections[: 2 if worst else 1])


def _lengths(path: Path, rows: list[dict]) -> list[Path]:
    """How long predictions and references are, in words (characters where a script has no spaces)."""
    from matplotlib import pyplot

    lengths = {
        name: [len(generated_text.units(row[name])) for row in rows if row[name]]
        for name in ("reference", "prediction")
    }
    if not any(lengths.values()):
        return []
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    most = max(max(values, default=0) for values in lengths.values())
    axes.hist(
        list(lengths.values()), bins=min(30, most + 1), label=[f"{name}s" for name in lengths]
    )
    axes.set(xlabel="words (characters where there are no spaces)", ylabel="rows")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return [path]


def _cell(value: object, most: int = 160) -> str:
    return markdown.text(value, most)


def _confusion_matrix(path: Path, rows: list[dict], labels: Labels) -> list[Path]:
    from matplotlib import pyplot
    from sklearn.metrics import confusion_matrix

    names = labels.names
    rows = [row for row in rows if row.get("label") is not None]
    if labels.kind != SINGLE or not rows or len(names) > MAX_CLASSES:
        return []
    counts = confusion_matrix(
        [row["label"] for row in rows], [row["prediction"] for row in rows], labels=list(names)
    )
    size = max(4.0, 0.5 * len(names) + 2)
    figure, axes = pyplot.subplots(figsize=(size, size), layout="constrained")
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in ((i, j) for i in range(len(names)) for j in range(len(names))):
        axes.text(
            j,
            i,
            counts[i, j],
            ha="center",
            va="center",
            color="white" if shares[i, j] > 0.5 else "black",
        )
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set(xlabel="prediction", ylabel="label")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return [path]
