"""Measures what more processes and more data cost.

Two processes are compared with one on the same steps, and 1, 4 and 16 times the text.

python benchmarks/scaling.py --data ../shared/data
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results, works

MODEL = (
    "--model_type bert --vocab_size 8000 --max_seq_length 128 --config_overrides hidden_size=256"
)
MODEL += ",num_hidden_layers=4,num_attention_heads=4,intermediate_size=1024"
TRAINING = "--global_batch_size 32 --save_strategy no --eval_strategy no"
TRAINING += " --load_best_model_at_end false --do_train"
TWO = ["--launcher", "ddp", "--num_processes", "2"]
THREAD = {"OMP_NUM_THREADS": "1"}


def train(
    file: Path, short: Path, folder: Path, steps: int, rows: int, *launcher: str
) -> dict[str, float]:
    """Trains and returns the results, with the `seconds` and the `memory` of the process."""
    words: list[Any] = ["cli.py", "pretrain", "mlm", *launcher, *MODEL.split(), *TRAINING.split()]
    words += [
        "--train_file",
        file,
        "--validation_file",
        short,
        "--max_steps",
        steps,
        "--output_dir",
        folder,
    ]
    ended = processes.run([*words, "--per_device_train_batch_size", rows], **THREAD)
    found = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    return found | {"seconds": ended.seconds, "memory": ended.memory}


def processes_table(file: Path, short: Path, folder: Path, steps: int, turns: int) -> list[str]:
    """Returns how one process and two compare; each has one thread, and they take turns."""
    found: dict[str, list[float]] = {"one": [], "two": []}
    for turn in range(turns):
        for name, rows, launcher in (("one", 32, []), ("two", 16, TWO)):
            ended = train(file, short, folder / f"{name}-{turn}", steps, rows, *launcher)
            found[name].append(ended["train_samples_per_second"])
    ratio = statistics.median(found["two"]) / statistics.median(found["one"])
    return [
        f"Two processes of one thread train {ratio:.2f} times as fast as one"
        f" ({steps} steps of 32 rows).",
        "",
    ]


def data_table(texts: list[str], short: Path, folder: Path, steps: int) -> list[str]:
    """Returns the table of 1, 4 and 16 times the text.

    The whole run minus its training is reading, tokenising and starting.
    """
    lines = ["| text, MB | training, rows/s | all else, s | peak memory, MB |", "|---|---|---|---|"]
    for times in (1, 4, 16):
        file = folder / f"{times}.txt"
        file.write_text("".join(texts) * times, encoding="utf-8")
        ended = train(file, short, folder / f"times-{times}", steps, 32)
        other, size = ended["seconds"] - ended["train_runtime"], file.stat().st_size / 1e6
        lines.append(
            f"| {size:.1f} | {ended['train_samples_per_second']:.1f} | {other:.1f} "
            f"| {ended['memory']:.0f} |"
        )
    return lines


def main(
    data: Annotated[Path, typer.Option(help="The folder with english_novels.")],
    steps: int = 20,
    turns: int = 3,
) -> None:
    """Measure, print and write both tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = works.texts(data, 1_000_000)
        file, short = folder / "train.txt", folder / "short.txt"
        file.write_text("".join(texts), encoding="utf-8")
        short.write_text("".join(texts[:50]), encoding="utf-8")
        lines = processes_table(file, short, folder, steps, turns) + data_table(
            texts, short, folder, steps
        )
    results.record("Scaling", "\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
