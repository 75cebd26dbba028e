"""Measures how long a user waits for help, and for the first step of every recipe on its samples.

python benchmarks/starting.py
"""

import statistics
import sys
import tempfile
from pathlib import Path

import typer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results
from benchmarks.processes import ROOT
from recipes.common.launch import HUGE_PAGES

HELP = {
    "`cli.py --help`": ["cli.py", "--help"],
    "`cli.py finetune sentiment --help`": ["cli.py", "finetune", "sentiment", "--help"],
    "import of torch and transformers' Trainer": [
        "-c",
        "import torch; from transformers import Trainer",
    ],
}
# Runs a recipe up to its first training step, and prints how long that took beyond the imports.
FIRST_STEP = """
import os, runpy, sys, time
import torch
from transformers import Trainer

began = time.perf_counter()

def training_step(*_, **__):
    print(time.perf_counter() - began, flush=True)
    os._exit(0)

Trainer.training_step = training_step
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def first_step(recipe: Path) -> float:
    """Returns the seconds from the end of the imports to the first step."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-c", FIRST_STEP, recipe, "--output_dir", f"{folder}/run"]
        return float(processes.run(words, **HUGE_PAGES).output.splitlines()[-1])


def main(turns: int = 3) -> None:
    """Measure, print and write the seconds, medians over the turns."""
    waits = {
        what: (lambda words=words: processes.run(words).seconds) for what, words in HELP.items()
    }
    for recipe in sorted(ROOT.glob("recipes/*/run.py")):
        waits[f"{recipe.parent.name}: first step, beyond the imports"] = lambda recipe=recipe: (
            first_step(recipe)
        )
    found = {what: [measure() for _ in range(turns)] for what, measure in waits.items()}
    lines = ["| | seconds |", "|---|---|"]
    lines += [f"| {what} | {statistics.median(seconds):.2f} |" for what, seconds in found.items()]
    results.record("Start-up", "\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
