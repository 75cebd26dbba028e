"""Text -> blocks of tokens: our recipe, Hugging Face's run_clm.py and the bare tokenizer, in turn.

    python benchmarks/preparing.py --peers transformers/examples/pytorch --data ../shared/data

A script's seconds are those of a run on all of the text less those of a run on a thousandth of it.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from transformers import AutoTokenizer

sys.path.insert(0, next(str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()))

from benchmarks import run, works

BLOCK = 256


def bare(tokenizer: Any, file: Path) -> float:
    """Seconds of the tokenizer alone, by its own batches."""
    texts = file.read_text(encoding="utf-8").splitlines(keepends=True)
    began = time.perf_counter()
    for start in range(0, len(texts), 1000):
        tokenizer.backend_tokenizer.encode_batch_fast(texts[start : start + 1000], add_special_tokens=False)
    return time.perf_counter() - began


def ours(model: Path, file: Path, short: Path, folder: Path) -> tuple[float, float]:
    """Seconds and MB of our recipe, up to the training."""
    words = [run.ROOT / "recipes/clm_pretrain/run.py", "--prepare_only", "--prepared_dir", folder / "prepared"]
    return run.run([*words, *_common(model, file, short, folder)], os.environ | run.OFFLINE)[1:]


def theirs(script: Path, model: Path, file: Path, short: Path, folder: Path) -> tuple[float, float]:
    """Seconds and MB of Hugging Face's script with one step of training."""
    environment = os.environ | run.OFFLINE | {"HF_DATASETS_CACHE": str(folder / "cache")}
    words = [script, "--max_steps", "1", "--do_train", "--save_strategy", "no", "--per_device_train_batch_size", "1"]
    return run.run([*words, *_common(model, file, short, folder)], environment)[1:]


def _common(model: Path, file: Path, short: Path, folder: Path) -> list[Any]:
    words = ["--train_file", file, "--validation_file", short, "--model_name_or_path", model, "--block_size", BLOCK]
    return [*words, "--output_dir", folder / "run"]


def main(
    peers: Annotated[Path, typer.Option(help="Hugging Face's examples/pytorch.")],
    data: Annotated[Path, typer.Option(help="The folder with english_novels.")],
    megabytes: int = 20,
    turns: int = 3,
    scratch: Annotated[Path, typer.Option(help="Where the model is kept.")] = Path("outputs/benchmarks"),
) -> None:
    """Medians over the turns, MB of text a second."""
    model, script = scratch.resolve() / "models/gpt2-4x256", peers.resolve() / "language-modeling/run_clm.py"
    works.build("gpt2-4x256", data, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as name:
        file, short = Path(name, "all.txt"), Path(name, "short.txt")
        texts = works.texts(data, 20_000_000)
        file.write_text("".join(texts) * (megabytes // 20 or 1), encoding="utf-8")
        short.write_text("".join(texts[: len(texts) // 1000]), encoding="utf-8")
        found: dict[str, list[float]] = {"the tokenizer alone": [], "ours": [], "run_clm.py": []}
        memory: dict[str, float] = {}
        for turn in range(turns):
            found["the tokenizer alone"].append(bare(tokenizer, file))
            for side, start in (("ours", ours), ("run_clm.py", lambda *rest: theirs(script, *rest))):
                seconds, memory[side] = start(model, file, short, Path(name, f"{side}-{turn}"))
                found[side].append(seconds - start(model, short, short, Path(name, f"{side}-{turn}-short"))[0])
        size = file.stat().st_size / 1e6
    print(f"{size:.1f} MB of text, {turns} turns\n\n{'':20} MB/s  seconds  peak memory, MB")
    for side, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{side:20} {size / middle:4.1f}  {middle:7.1f}  {memory.get(side, 0):.0f}")


if __name__ == "__main__":
    typer.run(main)
