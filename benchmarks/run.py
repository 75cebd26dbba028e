"""Compares the same trainings by our recipes, by Hugging Face's example scripts and by plain loops.

They take turns: A B C D A B C D.

    python benchmarks/run.py --peers transformers/examples/pytorch --data ../shared/data \
        --encoder MINILM_FOLDER
    python benchmarks/run.py --peers … --data … --work "masked LM: BERT 4x256" --pairs 1

`--peers` is a checkout of Hugging Face's scripts. `--data` is a folder with multi30k_en_de,
scitldr_a, sst2 and english_novels. The table goes to benchmarks/RESULTS.md. It holds ratios of
medians, because times depend on the machine.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results, works
from benchmarks.processes import ROOT
from benchmarks.works import WORKS, Work
from recipes.common.config.defaults import has_bf16

OURS, DEFAULT, BEST, LOOP = "ours", "HF default", "HF best flags", "plain loop"
QUIET = ["--disable_tqdm", "true", "--save_strategy", "no", "--report_to", "none"]
ON_CPU = not torch.cuda.is_available()
HALF = [
    "--bf16",
    "--bf16_full_eval",
    "--use_cpu",
    str(ON_CPU),
]  # on CPUs TrainingArguments asks for the last, too
HALF = HALF if has_bf16(ON_CPU) else []
AS_JSON = ("sst2", "scitldr_a")  # their scripts read JSON lines under the ending .json only
OWN = [
    "--eval_strategy",
    "no",
    "--load_best_model_at_end",
    "false",
    "--lr_scheduler_type",
    "linear",
]


@dataclass
class Place:
    """The folders of scripts, data, models and runs."""

    peers: Path
    data: Path
    encoder: Path | None
    work: Path

    def model(self, work: Work) -> Path:
        return self.encoder if work.model == "minilm" else self.work / "models" / work.model

    def of(self, work: Work) -> Path:
        return self.work / "novels" if work.data == "novels" else self.data / work.data

    def file(self, work: Work, split: str) -> Path:
        if work.data in AS_JSON:
            return self.work / f"{work.data}/{split}.json"
        return self.of(work) / f"{split}.{'txt' if work.data == 'novels' else 'jsonl'}"

    def write(self) -> None:
        """Writes the data that `data` does not hold in the form that is needed."""
        works.write_novels(self.data, self.work / "novels", 3_000_000)
        for name in AS_JSON:
            (self.work / name).mkdir(exist_ok=True)
            for split in ("train", "validation"):
                shutil.copy(self.data / f"{name}/{split}.jsonl", self.work / f"{name}/{split}.json")


def peak_flops(
    precision: torch.dtype, size: int = 2048, finish: Callable[[], Any] = lambda: None
) -> float:
    """Returns the floating-point operations per second of a large matrix product.

    It is the best of five. The clock stops after `finish`.
    """
    left, right = (torch.randn(size, size, dtype=precision) for _ in range(2))
    left @ right
    seconds = []
    for _ in range(5):
        finish()
        began = time.perf_counter()
        left @ right
        finish()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def peaks() -> dict[str, float]:
    """Returns what this machine reaches now, for each precision that is compared."""
    precisions = ("float32", "bfloat16") if HALF else ("float32",)
    return {name: peak_flops(getattr(torch, name)) for name in precisions}


def measure(side: str, work: Work, place: Place, folder: Path) -> dict[str, float]:
    """Runs one side and returns its measurements.

    They are Hugging Face's own keys, `memory` in MB and `seconds` of the whole process. The quality
    of a model that a peer trained is measured by our recipe's evaluation.
    """
    folder.mkdir(parents=True)
    environment = {"HF_DATASETS_CACHE": str(folder / "cache")}
    if side == LOOP:
        words = [ROOT / "benchmarks/loops.py", work.recipe, place.model(work), place.of(work)]
        words += [work.steps, work.rows, work.length, "--bf16" if HALF else "--no-bf16"]
    else:
        words = flags(work, place, folder)
        if side == OURS:
            words = [ROOT / "cli.py", *work.command, *words, *OWN]
        else:
            environment["PYTHONPATH"] = str(ROOT / "benchmarks/offline")
            words = [
                place.peers / work.script,
                *words,
                *work.peer,
                *([*work.best, *HALF] if side == BEST else []),
            ]
    ended = processes.run(words, **environment)
    if side == LOOP:
        found = json.loads(ended.output.splitlines()[-1])
    else:
        found = _results(folder) | ({} if side == OURS else judge(work, place, folder))
    return found | {"memory": ended.memory, "seconds": ended.seconds}


def judge(work: Work, place: Place, trained: Path) -> dict[str, float]:
    """Returns our recipe's scores of a model that a peer trained.

    The peers' own scores differ for the same model. run_mlm.py draws other masks. Trainer 5.23
    divides GPT-2's loss by all labels, also by the first of a block, which is never predicted: at
    256 tokens per block the loss is 1/256 too small.
    """
    folder = trained / "judged"
    words = [word for word in flags(work, place, folder) if word != "--do_train"]
    words[words.index("--model_name_or_path") + 1] = trained
    words += (
        ["--predict_with_generate", "false"] if "eval_gen_len" in work.quality else []
    )  # the loss needs no answers
    processes.run([ROOT / "cli.py", *work.command, *words, *OWN])
    return {key: value for key, value in _results(folder).items() if key in work.quality}


def _results(folder: Path) -> dict[str, float]:
    return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))


def flags(work: Work, place: Place, folder: Path, logging_steps: int = 1000) -> list[Any]:
    """Returns the flags that our recipe and its peer both get."""
    words = [
        "--train_file",
        place.file(work, "train"),
        "--validation_file",
        place.file(work, "validation"),
    ]
    words += [
        "--model_name_or_path",
        place.model(work),
        *work.flags,
        *QUIET,
        "--max_steps",
        work.steps,
    ]
    words += ["--logging_steps", logging_steps]
    words += ["--per_device_train_batch_size", work.rows, "--per_device_eval_batch_size", work.rows]
    return [*words, "--do_train", "--do_eval", "--output_dir", folder]


def compare(work: Work, place: Place, pairs: int) -> dict[str, list[dict[str, float]]]:
    """Returns the measurements of every side, which take turns."""
    if work.model != "minilm":
        works.build(work.model, place.data, place.model(work))
    sides = (
        (OURS, DEFAULT, BEST, LOOP) if work.best or HALF else (OURS, DEFAULT, LOOP)
    )  # or both commands are one
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for pair in range(pairs):
        for side, measured in found.items():
            with tempfile.TemporaryDirectory(dir=place.work) as folder:
                measured.append(measure(side, work, place, Path(folder, "run")))
            speed, seconds = measured[-1]["train_samples_per_second"], measured[-1]["seconds"]
            print(
                f"{work.name}, {pair + 1}, {side}: {speed:.1f} rows/s in {seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return found


def ratios(ours: list[dict], other: list[dict], value: Callable[[dict], float]) -> str:
    """Returns the ratio of the medians, and the smallest and the largest ratio of a pair."""
    pairs = [value(a) / value(b) for a, b in zip(ours, other, strict=True)]
    middle = statistics.median(map(value, ours)) / statistics.median(map(value, other))
    return (
        f"{middle:.2f} ({min(pairs):.2f}-{max(pairs):.2f})" if len(pairs) > 1 else f"{middle:.2f}"
    )


def table(work: Work, found: dict[str, list[dict[str, float]]], peak: float) -> str:
    """Returns the part of RESULTS.md about one work."""
    ours, operations = found[OURS], found[LOOP][0]["flops"]
    lines = [f"{work.steps} steps of {work.rows} rows. Ours is so many times as fast:", ""]
    lines += [
        "| beside | training | evaluation | peak memory | whole process | quality | share of peak |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for side, measured in found.items():
        speed = statistics.median(one["train_samples_per_second"] for one in measured)
        row = [side, ratios(ours, measured, lambda one: one["train_samples_per_second"])]
        if side == LOOP:
            row += ["", ratios(ours, measured, lambda one: one["memory"]), "", ""]
        else:
            row += [ratios(measured, ours, lambda one: one["eval_runtime"])]
            row += [ratios(ours, measured, lambda one: one["memory"])]
            row += [ratios(measured, ours, lambda one: one["seconds"])]
            row += [
                ", ".join(
                    f"{key} {statistics.median(one[key] for one in measured):.4f}"
                    for key in work.quality
                )
            ]
        lines.append(f"| {' | '.join([*row, f'{speed * operations / peak:.1%}'])} |")
    return "\n".join(lines) + "\n"


def main(
    peers: Annotated[Path, typer.Option(help="Hugging Face's examples/pytorch.")],
    data: Annotated[Path, typer.Option(help="The folder of the data sets.")],
    encoder: Annotated[
        Path | None, typer.Option(help="A pretrained encoder for sentiment (MiniLM).")
    ] = None,
    work: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    pairs: Annotated[int, typer.Option(min=1)] = 3,
    scratch: Annotated[Path, typer.Option(help="Where models and runs are kept.")] = Path(
        "outputs/benchmarks"
    ),
) -> None:
    """Measure, print and write the table."""
    place = Place(peers.resolve(), data.resolve(), encoder, scratch.resolve())
    place.write()
    for one in works.chosen(WORKS, work, encoder):
        before, found, after = peaks(), compare(one, place, pairs), peaks()
        best = {
            name: max(before[name], after[name]) for name in before
        }  # of a disturbed moment it is too low
        said = ", ".join(f"{name} {peak / 1e9:.0f}" for name, peak in best.items())
        machine = f"{torch.get_num_threads()} threads; matrix products, GFLOP/s: {said}."
        results.record(one.name, f"{machine}\n\n{table(one, found, max(best.values()))}")


if __name__ == "__main__":
    typer.run(main)
