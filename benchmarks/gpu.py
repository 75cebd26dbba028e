"""Compares trainings on a GPU: our recipes, Hugging Face's scripts, and a plain loop.

Recipes and scripts are run as they come, and compiled.

    python benchmarks/gpu.py --peers transformers/examples/pytorch --data ../shared/data

Every side runs once, in a process of its own. The first steps do not count, because the compiler
works in them. Three windows of four steps count, each between clocks that wait for the GPU. Of the
plain loop all steps count.
"""

import json
import os
import statistics
import sys
import tempfile
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

from benchmarks import loops, processes, results, works
from benchmarks.processes import ROOT
from benchmarks.run import BEST, DEFAULT, HALF, LOOP, OURS, OWN, Place, flags, peak_flops
from benchmarks.works import COMPILED, ON_GPU, Work

OURS_COMPILED = "ours, compiled"
SIDES = [OURS_COMPILED, OURS, BEST, DEFAULT, LOOP]
MARKS = [8, 12, 16, 20]  # steps at which a window begins or ends
TRACED = 2  # steps after them, whose kernels are counted
CHARACTERS = 9_200_000  # of the novels: more than all steps take

# Runs a script, ours or a peer's. Prints the seconds of each window, the peak memory, the loss of
# the last window and the seconds of every kernel.
MEASURED = """
import json, os, runpy, sys, time
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Trainer, TrainerCallback

(*MARKS, TRACED), sys.argv = json.loads(sys.argv[1]), sys.argv[2:]

class Measured(TrainerCallback):
    times = []

    def on_step_begin(self, arguments, state, control, **_):
        if state.global_step in (*MARKS, MARKS[-1] + TRACED):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        if state.global_step == MARKS[-1]:
            self.memory = torch.cuda.max_memory_allocated()
            self.loss = [logs["loss"] for logs in state.log_history if "loss" in logs][-1]
            self.profile = profile(activities=[ProfilerActivity.CUDA])
            self.profile.start()
            self.began = time.perf_counter()
        if state.global_step == MARKS[-1] + TRACED:
            traced = (self.times.pop() - self.began) / TRACED
            self.profile.stop()
            averages = self.profile.key_averages()
            kernels = {one.key: one.self_device_time_total / 1e6 / TRACED for one in averages}
            seconds = [after - before for before, after in zip(self.times, self.times[1:])]
            found = {"seconds": seconds, "memory": self.memory, "loss": self.loss}
            found |= {"kernels": kernels, "step": traced}
            print("\\n" + json.dumps(found), flush=True)
            os._exit(0)

train = Trainer.train

def measured_train(self, *rest, **options):
    self.add_callback(Measured())
    return train(self, *rest, **options)

Trainer.train = measured_train
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# The kinds of kernels. A kernel is of the first kind that has a word which its name contains.
KINDS = {
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "splitK"),
    "optimizer and gradient norm": ("multi_tensor", "Adam"),
    "compiled, element by element": ("triton_",),
    "copies": ("Memcpy", "Memset", "copy", "Cat"),
}


def measure(side: str, work: Work, place: Place, folder: Path) -> dict[str, Any]:
    """Runs one side and returns what MEASURED or the loop prints."""
    folder.mkdir(parents=True)
    if side == LOOP:
        words = [ROOT / "benchmarks/loops.py", work.recipe, place.model(work), place.of(work)]
        words += [MARKS[-1], work.rows, work.length]
        return json.loads(processes.run(words).output.splitlines()[-1])
    told = [
        *flags(work, place, folder, MARKS[1] - MARKS[0]),
        "--max_train_samples",
        work.steps * work.rows,
    ]
    if side in (OURS, OURS_COMPILED):
        words = [
            ROOT / "recipes" / work.recipe / "run.py",
            *told,
            *OWN,
            *(COMPILED if side == OURS_COMPILED else []),
        ]
    else:
        words = [
            place.peers / work.script,
            *told,
            *work.peer,
            *([*work.best, *HALF] if side == BEST else []),
        ]
    paths = os.pathsep.join(
        [str(ROOT / "benchmarks/offline"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    environment = {"HF_DATASETS_CACHE": str(place.work / "cache"), "PYTHONPATH": paths}
    said = processes.run(
        ["-c", MEASURED, json.dumps([*MARKS, TRACED]), *words], **environment
    ).output
    return json.loads(said.splitlines()[-1])


def shares(found: dict[str, Any]) -> dict[str, float]:
    """Returns the share of a step's time that each kind of kernels takes, largest first."""
    spent: dict[str, float] = {}
    for kernel, time in found["kernels"].items():
        kind = next(
            (name for name, words in KINDS.items() if any(word in kernel for word in words)),
            "other kernels",
        )
        spent[kind] = spent.get(kind, 0.0) + time / found["step"]
    spent["nothing: the GPU waits"] = 1 - sum(spent.values())
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def operations(work: Work, place: Place) -> float:
    """Returns the floating-point operations per token."""
    folders = str(place.model(work)), place.of(work)
    network, *rest = loops.load(work.recipe, *folders, work.rows, work.length)
    with torch.autocast("cuda", torch.bfloat16):
        found = loops.operations(work.recipe, network.train(), *rest, work.rows) / work.length
    del network
    torch.cuda.empty_cache()
    return found


def table(work: Work, found: dict[str, dict[str, Any]], share: float) -> str:
    """Returns the part of RESULTS.md about one work.

    `share` is the share of the peak that one token per second is.
    """
    window = MARKS[1] - MARKS[0]
    lines = [
        "| | tokens/s | ours, compiled, is so many times as fast | peak memory | loss "
        "| share of peak |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    rates = {side: _rates(one, work, window) for side, one in found.items()}
    for side, one in found.items():
        rate = statistics.median(rates[side])
        spread = (
            f" ({min(rates[side]):,.0f}-{max(rates[side]):,.0f})" if len(rates[side]) > 1 else ""
        )
        row = [
            side,
            f"{rate:,.0f}{spread}",
            f"{statistics.median(rates[OURS_COMPILED]) / rate:.2f}",
        ]
        row += [f"{one['memory'] / 1e9:.1f} GB", f"{one['loss']:.3f}"] if side != LOOP else ["", ""]
        lines.append(f"| {' | '.join([*row, f'{rate * share:.1%}'])} |")
    for side in [side for side in (OURS_COMPILED, OURS) if side in found]:
        lines += ["", f"A step of {side} is", "", "| | share of the time |", "|---|---|"]
        lines += [f"| {kind} | {share:.1%} |" for kind, share in shares(found[side]).items()]
    return "\n".join(lines)


def _rates(found: dict[str, Any], work: Work, window: int) -> list[float]:
    """Returns the tokens per second of each window."""
    if "seconds" not in found:
        return [found["train_samples_per_second"] * work.length]
    return [window * work.rows * work.length / seconds for seconds in found["seconds"]]


def _said(found: dict[str, Any], most: int = 40) -> str:
    """Returns the measurements as JSON, with only the kernels that take longest.

    Their names are cut.
    """
    if "kernels" not in found:
        return json.dumps(found)
    kernels = sorted(found["kernels"].items(), key=lambda pair: -pair[1])[:most]
    return json.dumps(
        found | {"kernels": {name[:80]: spent for name, spent in kernels}, "shares": shares(found)}
    )


def main(
    peers: Annotated[Path, typer.Option(help="Hugging Face's examples/pytorch.")],
    data: Annotated[Path, typer.Option(help="The folder of the data sets.")],
    work: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    side: Annotated[
        list[str] | None, typer.Option(help="Only this one, beside ours compiled; repeatable.")
    ] = None,
    scratch: Annotated[Path, typer.Option(help="Where models and runs are kept.")] = Path(
        "outputs/benchmarks"
    ),
) -> None:
    """Measure, print and write the tables."""
    if unknown := [name for name in side or [] if name not in SIDES]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of: {', '.join(SIDES)}", param_hint="--side"
        )
    place = Place(peers.resolve(), data.resolve(), None, scratch.resolve())
    works.write_novels(place.data, place.work / "novels", CHARACTERS)
    with torch.device("cuda"):
        peak = peak_flops(torch.bfloat16, 8192, torch.cuda.synchronize)
    for one in works.chosen(ON_GPU, work):
        works.build(one.model, place.data, place.model(one))
        share, found = operations(one, place) / peak, {}
        for name in [name for name in SIDES if not side or name in (OURS_COMPILED, *side)]:
            with tempfile.TemporaryDirectory(dir=place.work) as folder:
                found[name] = measure(name, one, place, Path(folder, "run"))
            print(f"{one.name}, {name}: {_said(found[name])}", file=sys.stderr, flush=True)
        said = f"{one.rows} rows of {one.length} tokens a step;"
        said += f" bf16 matrix products reach {peak / 1e12:.0f} TFLOP/s."
        results.record(one.name, f"{said}\n\n{table(one, found, share)}")


if __name__ == "__main__":
    typer.run(main)
