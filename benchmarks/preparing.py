"""Measures how fast text becomes blocks of tokens.

Our recipe, Hugging Face's run_clm.py and the bare tokenizer take turns.

    python benchmarks/preparing.py --peers transformers/examples/pytorch --data ../shared/data

A script's seconds are those of a run on all of the text, minus those of a run on a thousandth.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from transformers import AutoTokenizer

sys.path.insert(
    0,
    next(
        str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()
    ),
)

from benchmarks import processes, results, works
from benchmarks.processes import ROOT, Ended

BLOCK = 256


def bare(tokenizer: Any, file: Path) -> float:
    """Returns the seconds of the tokenizer alone, in batches of its own."""
    began = time.perf_counter()
    with file.open(encoding="utf-8") as lines:
        while texts := list(islice(lines, 1000)):
            tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return time.perf_counter() - began


def ours(model: Path, file: Path, short: Path, folder: Path) -> Ended:
    """Runs our recipe up to the training."""
    words = [
        ROOT / "recipes/clm_pretrain/run.py",
        "--prepare_only",
        "--prepared_dir",
        folder / "prepared",
    ]
    return processes.run([*words, *_common(model, file, short, folder)])


def theirs(script: Path, model: Path, file: Path, short: Path, folder: Path) -> Ended:
    """Runs Hugging Face's script with one step of training."""
    cache = str(folder / "cache")
    words = [
        script,
        "--max_steps",
        "1",
        "--do_train",
        "--save_strategy",
        "no",
        "--per_device_train_batch_size",
        "1",
    ]
    return processes.run([*words, *_common(model, file, short, folder)], HF_DATASETS_CACHE=cache)


def _common(model: Path, file: Path, short: Path, folder: Path) -> list[Any]:
    words = [
        "--train_file",
        file,
        "--validation_file",
        short,
        "--model_name_or_path",
        model,
        "--block_size",
        BLOCK,
    ]
    return [*words, "--output_dir", folder / "run"]


def main(
    data: Annotated[Path, typer.Option(help="The folder with english_novels.")],
    peers: Annotated[Path | None, typer.Option(help="Hugging Face's examples/pytorch.")] = None,
    megabytes: int = 20,
    turns: int = 3,
    scratch: Annotated[Path, typer.Option(help="Where the model is kept.")] = Path(
        "outputs/benchmarks"
    ),
) -> None:
    """Measure, print and write MB of text per second, medians over the turns."""
    model = scratch.resolve() / "models/gpt2-4x256"
    sides = {"ours": ours}
    if peers:
        sides["run_clm.py"] = partial(theirs, peers.resolve() / "language-modeling/run_clm.py")
    works.build("gpt2-4x256", data, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as name:
        file, short = Path(name, "all.txt"), Path(name, "short.txt")
        texts = works.texts(data, 20_000_000)
        with file.open("w", encoding="utf-8") as all_texts:
            for _ in range(max(1, megabytes // 20)):
                all_texts.writelines(texts)
        short.write_text("".join(texts[: len(texts) // 1000]), encoding="utf-8")
        found: dict[str, list[float]] = {side: [] for side in ("the tokenizer alone", *sides)}
        memory: dict[str, float] = {}
        for turn in range(turns):
            found["the tokenizer alone"].append(bare(tokenizer, file))
            for side, start in sides.items():
                whole = start(model, file, short, Path(name, f"{side}-{turn}"))
                without = start(model, short, short, Path(name, f"{side}-{turn}-short"))
                found[side].append(whole.seconds - without.seconds)
                memory[side] = whole.memory
        size = file.stat().st_size / 1e6
    lines = [f"{size:.1f} MB of text, {turns} turns.", ""]
    lines += ["| | MB/s | seconds | peak memory, MB |", "|---|---|---|---|"]
    for side, seconds in found.items():
        middle = statistics.median(seconds)
        lines.append(f"| {side} | {size / middle:.1f} | {middle:.1f} | {memory.get(side, 0):.0f} |")
    results.record(f"Preparing {megabytes} MB of text", "\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
