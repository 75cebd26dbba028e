"""Measures the time per step of nanoGPT's character model on Shakespeare.

It is trained by nanoGPT's own train.py and by our recipe, in turn.

python benchmarks/characters.py --nanogpt nanoGPT --data ../shared/data
"""

import json
import pickle
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy
import typer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results

FIRST = 10  # steps that do not count: memory is allocated, matrix products are prepared
# The run of nanoGPT's README for a CPU.
THEIRS = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64"
THEIRS += " --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --lr_decay_iters=2000 --dropout=0.0"
THEIRS += " --eval_interval=100000"
OURS = "--model_type gpt2 --tokenizer_algorithm char --vocab_size 100 --block_size 64"
OURS += " --learning_rate 1e-3 --per_device_train_batch_size 12 --lr_scheduler_type cosine"
OURS += " --warmup_steps 100 --adam_beta2 0.99 --weight_decay 0.1 --save_strategy no"
OURS += " --eval_strategy no --load_best_model_at_end false"
SIZES = "n_embd=128,n_layer=4,n_head=4,n_positions=64,resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"


def write_characters(data: Path, folder: Path) -> None:
    """Writes Shakespeare as nanoGPT reads it: train.bin, val.bin and meta.pkl."""
    texts = {
        "train": data / "tinyshakespeare/train.txt",
        "val": data / "tinyshakespeare/validation.txt",
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in texts.items()}
    numbers = {
        character: number for number, character in enumerate(sorted(set("".join(texts.values()))))
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        numpy.asarray([numbers[character] for character in text], dtype=numpy.uint16).tofile(
            folder / f"{name}.bin"
        )
    characters = {number: character for character, number in numbers.items()}
    meta = {"vocab_size": len(numbers), "stoi": numbers, "itos": characters}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def theirs(folder: Path, steps: int) -> float:
    """Returns the mean milliseconds per step of nanoGPT, without the first steps."""
    words = [
        "train.py",
        "config/train_shakespeare_char.py",
        *THEIRS.split(),
        f"--max_iters={steps}",
    ]
    said = processes.run(words, folder).output
    found = [
        float(time)
        for time in re.findall(r"^iter \d+: .* time ([\d.]+)ms", said, flags=re.MULTILINE)
    ]
    return statistics.mean(found[FIRST:])


def ours(data: Path, folder: Path, steps: int) -> float:
    """Returns the mean milliseconds per step of our recipe, without the first steps.

    The time of a training of only the first steps is subtracted.
    """
    return (
        _milliseconds(data, folder / "all", steps) - _milliseconds(data, folder / "first", FIRST)
    ) / (steps - FIRST)


def _milliseconds(data: Path, folder: Path, steps: int) -> float:
    files = [data / "tinyshakespeare" / name for name in ("train.txt", "validation.txt")]
    words = [
        "cli.py",
        "pretrain",
        "clm",
        "--train_file",
        files[0],
        "--validation_file",
        files[1],
        *OURS.split(),
    ]
    words += [
        "--config_overrides",
        SIZES,
        "--max_steps",
        steps,
        "--logging_steps",
        1000,
        "--output_dir",
        folder,
    ]
    processes.run([*words, "--do_train"])
    found = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    return found["train_runtime"] * 1000


def main(
    nanogpt: Annotated[Path, typer.Option(help="A checkout of nanoGPT.")],
    data: Annotated[Path, typer.Option(help="The folder with tinyshakespeare.")],
    steps: int = 400,
    turns: int = 3,
) -> None:
    """Measure, print and write the medians over the turns."""
    found: dict[str, list[float]] = {"nanoGPT": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        peer = Path(name, "nanogpt")
        shutil.copytree(nanogpt, peer)
        write_characters(data, peer / "data/shakespeare_char")
        for turn in range(turns):
            found["nanoGPT"].append(theirs(peer, steps))
            found["ours"].append(ours(data.resolve(), Path(name, f"run-{turn}"), steps))
    ratio = statistics.median(found["ours"]) / statistics.median(found["nanoGPT"])
    lines = [
        f"{steps} steps of 12 rows of 64 characters, {turns} turns.",
        "",
        "| | ms a step |",
        "|---|---|",
    ]
    lines += [f"| {side} | {statistics.median(times):.1f} |" for side, times in found.items()]
    lines += ["", "nanoGPT computes in fp32 on a CPU, ours in bf16 where it has the instructions."]
    lines += ["", f"Ours takes {ratio:.2f} of nanoGPT's time."]
    results.record("Causal LM: nanoGPT's character run", "\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
