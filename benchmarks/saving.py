"""Measures what safe checkpoints cost.

This project's Trainer and transformers.Trainer take turns on the same model and rows.

python benchmarks/saving.py
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
import typer
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

sys.path.insert(
    0,
    str(
        next(
            path for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
        )
    ),
)

from benchmarks import results
from recipes.common.model.loading import parameters
from recipes.common.train.trainer import Trainer

CLASSES = {"transformers.Trainer": transformers.Trainer, "Trainer Recipes": Trainer}
LENGTH, VOCABULARY = 32, 8000


def rows() -> Dataset:
    """Returns random tokens with random labels: only the time counts."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (256, LENGTH), generator=generator).tolist()
    return Dataset.from_dict({"input_ids": ids, "labels": [number % 2 for number in range(256)]})


def model(hidden_size: int) -> BertForSequenceClassification:
    """Returns a BERT of two layers with new weights."""
    sizes = {
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_attention_heads": hidden_size // 64,
    }
    return BertForSequenceClassification(
        BertConfig(vocab_size=VOCABULARY, num_hidden_layers=2, **sizes)
    )


@contextmanager
def timed(kind: type) -> Iterator[list[float]]:
    """Yields a list that collects the seconds of every save of this class."""
    save, seconds = kind._save_checkpoint, []

    def measured(*arguments: object) -> None:
        began = time.perf_counter()
        save(*arguments)
        seconds.append(time.perf_counter() - began)

    kind._save_checkpoint = measured
    try:
        yield seconds
    finally:
        kind._save_checkpoint = save


def train(
    kind: type, hidden_size: int, steps: int, every: int, folder: Path
) -> tuple[float, list[float]]:
    """Returns the seconds of so many steps with a save every `every`, and of each save."""
    options = {
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
    }
    options |= {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 50,
        "per_device_train_batch_size": 8,
    }
    trainer = kind(
        model(hidden_size), TrainingArguments(str(folder), **options), train_dataset=rows()
    )
    with timed(kind) as saves:
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began, saves


def main(hidden_size: int = 256, steps: int = 200, every: int = 50, turns: int = 3) -> None:
    """Measure, print and write the medians over the turns."""
    transformers.utils.logging.disable_progress_bar()
    found: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in CLASSES}
    for turn in range(turns + 1):
        for name, kind in CLASSES.items():
            with tempfile.TemporaryDirectory() as folder:
                measured = train(kind, hidden_size, steps if turn else every, every, Path(folder))
            if turn:  # the first one warms up
                found[name].append(measured)
    lines = [
        f"{parameters(model(hidden_size))[0]:,} parameters, {steps} steps, a save every {every},"
        f" {turns} turns.",
        "",
    ]
    lines += ["| | ms a save | seconds of all steps |", "|---|---|---|"]
    medians = {}
    for name, turn in found.items():
        save = statistics.median(second for _, saves in turn for second in saves)
        medians[name] = save, statistics.median(total for total, _ in turn)
        lines.append(f"| {name} | {save * 1000:.0f} | {medians[name][1]:.2f} |")
    raw, ours = medians.values()
    lines.append(f"| ratio | {ours[0] / raw[0]:.2f} | {ours[1] / raw[1]:.3f} |")
    results.record("A safe save", "\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
