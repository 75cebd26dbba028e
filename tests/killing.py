"""Runs of every recipe that are killed and go on, beside runs that were never stopped.

    python tests/killing.py kill --trials 200
    python tests/killing.py stop --trials 60
    python tests/killing.py matrix

Every module is imported once; every run is a forked process of its own, and takes two seconds instead of ten.
"""

import contextlib
import importlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
import typer
from conftest import ROOT, load_recipe, row

from recipes.common import checkpoints, errors, signals
from tools import equivalence

ROWS = 400  # of which 40 are trained on, or the blocks that they fill
# Dropout on: a resumed run must draw the same random numbers.
MODELS = {name: [model, overrides.replace("=0", "=0.1").replace("=0.1.1", "=0.1"), *rest]
          for name, (model, overrides, *rest) in equivalence.MODELS.items()}  # fmt: skip
LANGUAGES = ["--source_lang", "en", "--target_lang", "de"]
# Files that appear as a run loads and tokenises, trains, saves, evaluates, and after its training evaluates again.
PHASES = ("run.json", "checkpoint-3", ".saving-6", "checkpoint-9", ".saving-15", "train_results.json")
UNCOMPARED = ("runtime", "per_second", "flos")


@dataclass(frozen=True)
class Case:
    """One cell: a recipe and how its rows are taken."""

    recipe: str
    accumulated: int = 1
    workers: int = 0
    order: str = "random"
    kept: int = 3  # checkpoints

    def flags(self, folder: Path, output_dir: Path) -> list[str]:
        """Two epochs of ten steps of four rows with a checkpoint every three steps."""
        model_type, overrides, algorithm, *own = MODELS[self.recipe]
        data = folder / f"{self.recipe}.jsonl"
        if not data.exists():
            data.write_text("".join(json.dumps(row(self.recipe, number)) + "\n" for number in range(ROWS)), "utf-8")
        words = ["--train_file", str(data), "--validation_file", str(data), "--output_dir", str(output_dir)]
        words += ["--model_type", model_type, "--config_overrides", overrides, "--tokenizer_algorithm", algorithm]
        words += [*[word for word in own if "sampling" not in word], "--vocab_size", "300", "--bf16", "false"]
        words += LANGUAGES if self.recipe == "translation" else []
        words += ["--per_device_train_batch_size", str(4 // self.accumulated), "--per_device_eval_batch_size", "20"]
        words += ["--gradient_accumulation_steps", str(self.accumulated), "--num_train_epochs", "2"]
        words += ["--dataloader_num_workers", str(self.workers), "--learning_rate", "1e-2", "--logging_steps", "1"]
        words += ["--eval_strategy", "steps", "--eval_steps", "5", "--save_strategy", "steps", "--save_steps", "3"]
        words += ["--load_best_model_at_end", "false", "--save_total_limit", str(self.kept), "--max_eval_samples", "8"]
        if self.order == "streaming" and self.recipe.endswith("pretrain"):
            return [*words, "--streaming", "--max_steps", "20"]
        words += ["--max_train_samples", "40"]
        return [*words, *(["--streaming"] if self.order == "streaming" else ["--train_sampling_strategy", self.order])]


def start(case: Case, folder: Path, output_dir: Path, before: Callable[[], None] | None = None) -> int:
    """Starts a run in a process of its own; its number. `before` is called in it first."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)  # of tiny models they would only wait for each other
        log = os.open(f"{output_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if before:
            before()
        errors.guard(lambda: load_recipe(case.recipe).main(case.flags(folder, output_dir)))
        Path(f"{output_dir}.modules").write_text("\n".join(sys.modules), encoding="utf-8")
        os._exit(0)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def wait(child: int) -> int:
    """The exit code of a process, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(output_dir: Path) -> dict:
    """What must be the same to the bit: the final weights, the last checkpoint's states, every logged number."""
    last = max(checkpoints.all_of(output_dir), key=checkpoints.step)
    assert checkpoints.intact(last), checkpoints.damage(last)
    files = json.loads((last / checkpoints.MANIFEST).read_text(encoding="utf-8"))["files"]
    state = json.loads((output_dir / "trainer_state.json").read_text(encoding="utf-8"))
    log = [{k: v for k, v in entry.items() if not k.endswith(UNCOMPARED)} for entry in state["log_history"]]
    tensors = {name: files[f"{name}.safetensors"]["sha256"] for name in ("model", "optimizer", "scheduler")}
    found = {"log": log, **tensors}
    found["final"] = checkpoints._entry(output_dir / "model.safetensors")["sha256"]
    results = json.loads((output_dir / "all_results.json").read_text(encoding="utf-8"))
    found["results"] = {k: v for k, v in results.items() if not k.endswith((*UNCOMPARED, "preparation_time"))}
    return found


def difference(found: dict, wanted: dict) -> str:
    """The first thing that differs, or an empty string."""
    for name in wanted:
        if found[name] != wanted[name]:
            pairs = zip(found[name], wanted[name], strict=False) if name == "log" else [(found[name], wanted[name])]
            return f"{name}: {next((pair for pair in pairs if pair[0] != pair[1]), 'length')}"
    return ""


class Reference:
    """Runs that were never stopped, one a case, with the seconds they took."""

    def __init__(self, folder: Path):
        self.folder, self.known = folder, {}

    def of(self, case: Case) -> tuple[dict, float]:
        if case not in self.known:
            output_dir, began = self.folder / f"reference-{len(self.known)}", time.time()
            code = wait(start(case, self.folder, output_dir))
            assert code == 0, Path(f"{output_dir}.log").read_text(encoding="utf-8")[-3000:]
            for name in Path(f"{output_dir}.modules").read_text(encoding="utf-8").split():
                with contextlib.suppress(Exception):  # some can only be imported by others
                    importlib.import_module(name)
            self.known[case] = outcome(output_dir), time.time() - began
        return self.known[case]


def killed_at_checkpoint(number: int) -> Callable[[], None]:
    """Makes the process die as soon as so many checkpoints are published."""

    def prepare() -> None:
        publish, count = checkpoints.publish, itertools.count(1)

        def die(staged: Path, final: Path) -> None:
            publish(staged, final)
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.publish = die

    return prepare


def go_on(case: Case, folder: Path, output_dir: Path, wanted: dict) -> str:
    """Runs the same command to its end; what differs from the run that was never stopped."""
    held = [path.name for path in checkpoints.all_of(output_dir)]
    code = wait(start(case, folder, output_dir))
    log = Path(f"{output_dir}.log").read_text(encoding="utf-8")
    if code:
        return f"exit code {code}: {log[-1500:]}"
    if held and "resuming from" not in log and "already complete" not in log:
        return f"began anew, although there was {held}"
    return difference(outcome(output_dir), wanted)


def cells() -> Iterator[tuple[Case, int]]:
    """Every case with the checkpoint after which it is killed: the second (step 6, first epoch) or fifth (15)."""
    orders = ("random", "group_by_length", "streaming")
    for recipe, accumulated, workers, order in itertools.product(MODELS, (1, 2), (0, 2), orders):
        for checkpoint in (2, 5):
            yield Case(recipe, accumulated, workers, order), checkpoint


def wait_until(path: Path, seconds: float) -> None:
    """Waits for a path to appear, at most so long."""
    deadline = time.time() + seconds
    while not path.exists() and time.time() < deadline:
        time.sleep(0.0005)


def conclude(trials: Iterator[tuple[str, str]]) -> NoReturn:
    """Prints of every trial what was done and what differed, and how many were identical."""
    number = failures = 0
    for what, found in trials:
        number, failures = number + 1, failures + bool(found)
        print(f"{what}: {found or 'identical'}", flush=True)
    print(f"{number - failures} of {number} identical")
    raise typer.Exit(int(bool(failures)))


app = typer.Typer()


@app.command()
def matrix(recipe: str = "", every: int = 1) -> None:
    """Every recipe, accumulation, number of workers, order and epoch: killed after a checkpoint, then resumed."""

    def trials(folder: Path) -> Iterator[tuple[str, str]]:
        reference, chosen = Reference(folder), [cell for cell in cells() if recipe in cell[0].recipe][::every]
        for number, (case, checkpoint) in enumerate(chosen):
            wanted, _ = reference.of(case)
            output_dir = folder / f"run-{number}"
            code = wait(start(case, folder, output_dir, killed_at_checkpoint(checkpoint)))
            found = go_on(case, folder, output_dir, wanted) if code == -9 else f"was not killed: {code}"
            yield f"{case} killed after checkpoint {checkpoint}", found

    with tempfile.TemporaryDirectory() as name:
        conclude(trials(Path(name)))


@app.command()
def kill(trials: int = 200, seed: int = 0) -> None:
    """kill -9 at random times, every other one inside a save; then the same command."""
    drawn = random.Random(seed)

    def wait_for(output_dir: Path, seconds: float, inside: bool) -> None:
        if not inside:
            return time.sleep(drawn.random() * seconds)
        wait_until(output_dir / f"{checkpoints.STAGING}{3 * drawn.randint(1, 6)}", 3 * seconds)
        time.sleep(drawn.random() * 0.03)

    def one(number: int, case: Case, folder: Path, wanted: dict, seconds: float) -> tuple[str, str]:
        output_dir, inside = folder / f"run-{number}", number % 2 == 0
        child = start(case, folder, output_dir)
        wait_for(output_dir, seconds, inside)
        os.kill(child, signal.SIGKILL)
        code = wait(child)
        where = "inside a save" if inside else "anywhere"
        return f"{number} {case.recipe}, {where}, exit {code}", go_on(case, folder, output_dir, wanted)

    repeat(trials, one)


@app.command()
def stop(trials: int = 60, seed: int = 0) -> None:
    """SIGTERM, SIGINT or SIGUSR1 at random times, in every phase of a run; then the same command."""
    drawn = random.Random(seed)

    def one(number: int, case: Case, folder: Path, wanted: dict, seconds: float) -> tuple[str, str]:
        output_dir, sent = folder / f"run-{number}", signals.SIGNALS[number % len(signals.SIGNALS)]
        child = start(case, folder, output_dir)
        wait_until(output_dir / PHASES[number // 3 % len(PHASES)], 60)
        time.sleep(drawn.random() * 0.1)
        os.kill(child, sent)
        began = time.time()
        code, ended_after = wait(child), time.time() - began
        found = "" if code in (0, 130 if sent == signal.SIGINT else 143) else f"exit code {code}"
        found = found or ("" if ended_after < 5 else f"took {ended_after:.1f} s")
        what = f"{number} {case.recipe}, {sent.name}, exit {code} after {ended_after:.2f} s"
        return what, found or go_on(case, folder, output_dir, wanted)

    repeat(trials, one)


def repeat(trials: int, one: Callable[..., tuple[str, str]]) -> NoReturn:
    """So many trials of the recipes in turn, each beside the run of its case that was never stopped."""
    with tempfile.TemporaryDirectory() as name:
        folder, cases = Path(name), [Case(recipe) for recipe in MODELS]
        reference, chosen = Reference(folder), [cases[number % len(cases)] for number in range(trials)]
        conclude(one(number, case, folder, *reference.of(case)) for number, case in enumerate(chosen))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    app()
