"""Defines what a task is: its loss, its metrics, and what a run of it shows.

Everything else is the same for all tasks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.common.report import markdown

if TYPE_CHECKING:
    from transformers import EvalPrediction
    from transformers.trainer_utils import PredictionOutput

    from recipes.common.train.generation import TextGeneration
    from recipes.common.train.losses import Loss

Row = dict[str, Any]  # of predictions.jsonl

# What Trainer adds to the metrics.
ADDED_BY_TRAINER = {
    "loss",
    "samples",
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "model_preparation_time",
}


def cell(value: object) -> str:
    """Returns a text as it stands in a table, cut to 160 characters."""
    return markdown.text(value, 160)


def no_plots(folder: Path, rows: list[Row]) -> list[Path]:
    """Draws nothing."""
    return []


def no_examples(rows: list[Row], split: str) -> str:
    """Shows no examples."""
    return ""


def with_bounds(names: Iterable[str]) -> frozenset[str]:
    """Returns the names of these metrics and of the bounds of their intervals."""
    found = set()
    for name in names:
        found |= {name, f"{name}_low", f"{name}_high"}
    return frozenset(found)


@dataclass(frozen=True)
class Task:
    """Holds all that distinguishes one task from another.

    A recipe builds it in view by `labelling.task` and its sisters. It changes any other part by
    `dataclasses.replace(task, plot=…)`.
    """

    # What is learned and measured.
    loss: "Loss"  # (outputs, labels, num_items_in_batch) -> scalar
    compute_metrics: "Callable[[EvalPrediction], dict[str, float]]"
    data_collator: Callable[..., Any]  # rows -> a batch
    headline: str  # the metric that chooses the best model
    shown: Sequence[str]  # the metrics in the closing table, best first
    # What becomes of a prediction: the split's name and Trainer's output -> rows.
    rows: "Callable[[str, PredictionOutput], list[Row]]"
    # What the model card says.
    tag: str  # the Hub's name of the task
    what: str  # what the model is, in a few words
    use: str  # Python that uses the trained {folder}
    adapted: str = ""  # Python that uses the adapters in {folder}, where it differs from `use`
    answers: str = ""  # a sentence on what it answers with
    baseline: str = "the simplest answer"  # what the scores are compared with
    unit: str = "rows"  # what a batch consists of
    examples: Callable[[list[Row], str], str] = no_examples
    plot: Callable[[Path, list[Row]], list[Path]] = no_plots
    # Where not all logits are kept, or texts are generated.
    reduce_logits: Callable[..., Any] | None = None
    generation: "TextGeneration | None" = None
    known: frozenset[str] = frozenset()  # its metrics that are not shown, or in the card alone

    def others(self, scores: Iterable[str], prefixes: Iterable[str]) -> list[str]:
        """Returns the metrics that only a user's own compute_metrics returns; they are shown,
        too."""
        standard = {*self.shown, *self.known, *ADDED_BY_TRAINER}
        others: dict[str, None] = {}
        for prefix in prefixes:
            for score in scores:
                name = score.removeprefix(f"{prefix}_")
                if name != score and name not in standard and not name.startswith("baseline_"):
                    others[name] = None
        return [name for name in others if not _is_bound(name, others)]


def _is_bound(name: str, metrics: Iterable[str]) -> bool:
    """Whether a name is a bound of the interval of one of these metrics."""
    metric = name.removesuffix("_low").removesuffix("_high")
    return metric != name and metric in metrics
