"""Compares every recipe under every engine and split of the batch with the same run in one process.

    python tools/equivalence.py
    python tools/equivalence.py --recipe sentiment --engine zero3

The curves are loss and gradient norm of eight steps of 16 rows. Gradients are clipped. The steps
cross the end of an epoch that does not divide evenly. Every cell of the table is a run of its own
on CPU, by the command that a user would give: 165 runs of some 15 seconds.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.common import launch
from recipes.common.runtime import guard

TOLERANCE = 1e-4
CLIPPED_AT = 0.05
ENGINES = ("python", *launch.LAUNCHERS)
BY_ACCELERATE = ("ddp", "fsdp2")  # started by `accelerate launch`, the others by torchrun
# Processes, rows per micro-batch, micro-batches accumulated.
SPLITS = [(1, 16, 1), (1, 4, 4), (2, 8, 1), (2, 2, 4)]
BERT = (
    "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64"
    ",max_position_embeddings=64,hidden_dropout_prob=0,attention_probs_dropout_prob=0"
)
GPT2 = "n_embd=32,n_layer=2,n_head=2,n_positions=64,resid_pdrop=0,embd_pdrop=0,attn_pdrop=0"
# T5's own ReLU has a kink. In 1 of 30 runs rounding moves a value across it: a distance of 3e-3.
T5 = (
    "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=2,num_decoder_layers=2,dropout_rate=0"
    ",feed_forward_proj=gated-gelu"
)
BART = (
    "d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=2"
    ",decoder_attention_heads=2,encoder_ffn_dim=64,decoder_ffn_dim=64"
    ",max_position_embeddings=64,dropout=0"
)
OF_BERT = f"--model_type bert --config_overrides {BERT} --tokenizer_algorithm wordpiece"
OF_BERT += " --max_seq_length 32"
OF_GPT2 = f"--model_type gpt2 --config_overrides {GPT2} --tokenizer_algorithm bpe --block_size 32"
OF_T5 = f"--model_type t5 --config_overrides {T5} --tokenizer_algorithm bpe --max_source_length 32"
OF_BART = f"--model_type bart --config_overrides {BART} --tokenizer_algorithm bpe"
OF_BART += " --max_source_length 64 --max_target_length 32"
# The model of each recipe, as words of its command line.
MODELS = {
    "mlm_pretrain": OF_BERT.split(),
    "clm_pretrain": OF_GPT2.split(),
    "translation": OF_T5.split(),
    "summarization": OF_BART.split(),
    "sentiment": OF_BERT.split(),
    "token_classification": OF_BERT.split(),
}
SAMPLING = {"translation": ["--train_sampling_strategy", "group_by_length"]}
SAME = (
    "--max_train_samples 101 --vocab_size 500 --learning_rate 1e-2 --logging_steps 1 --max_steps 8"
    f" --bf16 false --max_grad_norm {CLIPPED_AT} --do_train --eval_strategy no --save_strategy no"
    " --load_best_model_at_end false --use_cpu true --disable_tqdm true"
)
Curve = list[tuple[float, float]]


def curve(recipe: str, engine: str, split: tuple[int, int, int], folder: Path) -> Curve:
    """Runs a recipe and returns (loss, gradient norm) of each step.

    Raises RuntimeError with the last lines of the run's errors if it failed.
    """
    processes, rows, accumulated = split
    flags = [*MODELS[recipe], *SAMPLING.get(recipe, []), *SAME.split()]
    flags += ["--per_device_train_batch_size", str(rows), "--output_dir", str(folder)]
    flags += ["--gradient_accumulation_steps", str(accumulated)]
    run, configuration = launch.recipes()[recipe], folder.with_suffix(".yaml")
    words = _command(run, flags, engine, processes, configuration)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        words, capture_output=True, text=True, cwd=launch.ROOT, env=environment, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{recipe} under {engine} {split}:\n{ended.stderr[-3000:]}")
    return read(folder)


def read(folder: Path) -> Curve:
    """Returns the curve of a run that logged every step, from its output folder."""
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [(log["loss"], log["grad_norm"]) for log in history if "loss" in log]


def _command(
    recipe: Path, flags: list[str], engine: str, processes: int, configuration: Path
) -> list[str]:
    if engine in BY_ACCELERATE:
        text = (launch.ROOT / f"ds_configs/accelerate/{engine}.yaml").read_text(encoding="utf-8")
        configuration.write_text(text + "use_cpu: true\n", encoding="utf-8")
        words = [sys.executable, "-m", "accelerate.commands.launch"]
        words += ["--config_file", str(configuration), "--num_processes", str(processes)]
        return [*words, str(recipe), *flags]
    launcher = "" if engine == "python" else engine
    world = launch.World(launcher, processes)
    return [sys.executable, *launch.command(recipe, flags, world)[1:]]


def difference(curve: Curve, reference: Curve) -> float:
    """Returns the largest distance of two curves, in loss or gradient norm, at any step."""
    if len(curve) != len(reference):
        return float("inf")
    found, wanted = itertools.chain(*curve), itertools.chain(*reference)
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def distances(recipe: str, engine: str, reference: Curve, folder: Path) -> list[float]:
    """Returns how far each split's curve is from the reference."""
    found = []
    for split in SPLITS:
        name = f"{recipe}-{engine}-{'x'.join(map(str, split))}"
        found.append(difference(curve(recipe, engine, split, folder / name), reference))
    return found


def _row(title: str, cells: Iterable[str]) -> str:
    return f"  {title:<14}{' '.join(cells)}"


def main(
    recipe: Annotated[list[str] | None, typer.Option(help="Only this recipe; repeatable.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Only this engine: {', '.join(ENGINES)}.")
    ] = None,
) -> None:
    """Print the table; the exit code is 1 where a curve differs by more than 1e-4."""
    worst = 0.0
    for name in recipe or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            reference = curve(name, "python", SPLITS[0], Path(folder, "reference"))
            losses, norms = zip(*reference, strict=True)
            splits = [f"{n} x {b} x {a}".rjust(11) for n, b, a in SPLITS]
            print(f"{name}, one process of 16 rows")
            print(_row("loss", map("{:.5f}".format, losses)))
            print(_row("grad norm", map("{:.5f}".format, norms)))
            print(_row("distance", splits))
            for chosen in engine or ENGINES:
                found = distances(name, chosen, reference, Path(folder))
                print(_row(chosen, map("{:11.1e}".format, found)), flush=True)
                worst = max(worst, *found)
    print(
        f"largest distance {worst:.1e} (processes x rows x accumulated micro-batches);"
        f" wanted: below {TOLERANCE:g}"
    )
    raise typer.Exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    guard.run_and_exit(lambda: typer.run(main))
