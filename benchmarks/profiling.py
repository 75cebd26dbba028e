"""Measures where the time of a training step goes.

It is spent in the operations of a work, and in Python around them.

    python benchmarks/profiling.py --data ../shared/data --encoder MINILM_FOLDER

The clock of the profiler itself counts as Python.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results, works
from benchmarks.processes import ROOT
from benchmarks.run import OWN, Place, flags
from benchmarks.works import WORKS, Work
from recipes.common.launch import HUGE_PAGES

# Runs a recipe's first steps and measures those that follow. Prints their seconds, and those of
# every operation.
PROFILED = """
import json, os, runpy, sys, time
from torch.profiler import ProfilerActivity, profile
from transformers import Trainer, TrainerCallback

FIRST, LAST = 12, 17

class Measured(TrainerCallback):
    def on_step_begin(self, arguments, state, control, **_):
        if state.global_step == FIRST:
            self.profile = profile(activities=[ProfilerActivity.CPU])
            self.profile.start()
            self.began = time.perf_counter()

    def on_step_end(self, arguments, state, control, **_):
        if state.global_step == LAST:
            seconds = time.perf_counter() - self.began
            self.profile.stop()
            found = {one.key: one.self_cpu_time_total / 1e6 for one in self.profile.key_averages()}
            print("\\n" + json.dumps([seconds / (LAST - FIRST), LAST - FIRST, found]), flush=True)
            os._exit(0)

train = Trainer.train

def measured_train(self, *rest, **options):
    self.add_callback(Measured())
    return train(self, *rest, **options)

Trainer.train = measured_train
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STEPS = 20  # beyond the last one that is measured
# The kinds of operations. One is of the first kind that has a word which its name contains.
KINDS = {
    "cross entropy": ("log_softmax", "exp_"),
    "attention": ("dot_product", "_softmax"),
    "matrix products": ("mm", "linear", "matmul"),
    "optimizer and gradient norm": ("adam", "_foreach", "Optimizer", "vector_norm"),
    "dropout": ("dropout", "_Dropout", "bernoulli"),
    "norms": ("norm", "rsqrt", "pow"),
    "embeddings": ("embedding", "index", "gather"),
    "copies and casts": ("copy", "cat", "clone", "contiguous"),
    "other element by element": ("aten::", "Backward"),
}


def kind(operation: str) -> str:
    """Returns the kind of an operation of the profiler."""
    return next(
        (name for name, words in KINDS.items() if any(word in operation for word in words)),
        "Python, and rest",
    )


def shares(seconds: float, steps: int, operations: dict[str, float]) -> dict[str, float]:
    """Returns the share of a step's time that each kind takes, largest first."""
    found: dict[str, float] = {}
    for operation, spent in operations.items():
        found[kind(operation)] = found.get(kind(operation), 0.0) + spent / steps / seconds
    found["Python, and rest"] = 1 - sum(
        share for name, share in found.items() if name != "Python, and rest"
    )
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def profile(work: Work, place: Place) -> str:
    """Returns the table of one work."""
    with tempfile.TemporaryDirectory(dir=place.work) as folder:
        words = [*flags(replace(work, steps=STEPS), place, Path(folder, "run")), *OWN]
        words = ["-c", PROFILED, ROOT / "recipes" / work.recipe / "run.py", *words]
        seconds, steps, operations = json.loads(
            processes.run(words, **HUGE_PAGES).output.splitlines()[-1]
        )
    lines = [f"A step takes {seconds * 1000:.0f} ms.", "", "| | share of the time |", "|---|---|"]
    return "\n".join(
        lines
        + [
            f"| {name} | {share:.1%} |"
            for name, share in shares(seconds, steps, operations).items()
        ]
    )


def main(
    data: Annotated[Path, typer.Option(help="The folder of the data sets.")],
    encoder: Annotated[
        Path | None, typer.Option(help="A pretrained encoder for sentiment (MiniLM).")
    ] = None,
    work: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    scratch: Annotated[Path, typer.Option(help="Where models are kept.")] = Path(
        "outputs/benchmarks"
    ),
) -> None:
    """Print and write the tables."""
    place = Place(Path(), data.resolve(), encoder, scratch.resolve())
    place.write()
    for one in works.chosen(WORKS, work, encoder):
        if one.model != "minilm":
            works.build(one.model, place.data, place.model(one))
        results.record(f"Profile of {one.name}", profile(one, place))


if __name__ == "__main__":
    typer.run(main)
