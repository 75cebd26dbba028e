"""Runs of every recipe that are killed and go on, beside runs that were never stopped.

python tests/killing.py kill --trials 200
python tests/killing.py stop --trials 60 --processes 2
python tests/killing.py stop --trials 60 --workers 2
python tests/killing.py ranks --trials 20
python tests/killing.py matrix
"""

import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer
from conftest import ROOT
from forked import MODELS, Case, Reference, go_on, start, wait

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.runtime import signals
from recipes.common.train.trainer import Trainer

# Files that appear as a run loads and tokenises, trains, saves, evaluates, and after its training evaluates again.
PHASES = (".lock", "checkpoint-3", ".saving-6", "checkpoint-9", ".saving-15", "train_results.json")


def killed_at_checkpoint(number: int) -> Callable[[], None]:
    """Makes the process die as soon as `number` checkpoints are published."""

    def prepare() -> None:
        publish, count = atomic_folder.publish, itertools.count(1)

        def die(staged: Path, final: Path) -> None:
            publish(staged, final)
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        atomic_folder.publish = die

    return prepare


def fails_at_step(number: int, kind: str) -> Callable[[], None]:
    """Makes the last process die, raise or hang in a step."""

    def prepare() -> None:
        step = Trainer.training_step

        def failing(self: Trainer, *arguments: object) -> object:
            if self.args.process_index and self.state.global_step == number:
                if kind == "raises":
                    raise MemoryError("no memory left")
                os.kill(os.getpid(), signal.SIGKILL if kind == "dies" else signal.SIGSTOP)
            return step(self, *arguments)

        Trainer.training_step = failing

    return prepare


def cells(processes: int) -> Iterator[tuple[Case, int]]:
    """Every case with the checkpoint after which it is killed: the second (step 6, first epoch) or fifth (15)."""
    orders = ("random", "group_by_length", "streaming")
    for recipe, accumulated, workers, order in itertools.product(MODELS, (1, 2), (0, 2), orders):
        for checkpoint in (2, 5):
            yield Case(recipe, accumulated, workers, order, processes=processes), checkpoint


def wait_until(path: Path, seconds: float) -> None:
    """Waits for a path to appear, for at most `seconds` seconds."""
    deadline = time.time() + seconds
    while not path.exists() and time.time() < deadline:
        time.sleep(0.0005)


def conclude(trials: Iterator[tuple[str, str]]) -> NoReturn:
    """Prints what each trial did and what differed, and how many trials were identical."""
    number = failures = 0
    for what, found in trials:
        number, failures = number + 1, failures + bool(found)
        print(f"{what}: {found or 'identical'}", flush=True)
    print(f"{number - failures} of {number} identical")
    raise typer.Exit(int(bool(failures)))


app = typer.Typer()


@app.command()
def matrix(recipe: str = "", every: int = 1, processes: int = 1) -> None:
    """Every recipe, accumulation, number of workers, order and epoch: killed after a checkpoint, then resumed."""

    def trials(folder: Path) -> Iterator[tuple[str, str]]:
        reference, chosen = (
            Reference(folder),
            [cell for cell in cells(processes) if recipe in cell[0].recipe][::every],
        )
        for number, (case, checkpoint) in enumerate(chosen):
            wanted, _ = reference.of(case)
            output_dir = folder / f"run-{number}"
            code = wait(start(case, folder, output_dir, killed_at_checkpoint(checkpoint)))
            found = (
                go_on(case, folder, output_dir, wanted) if code == -9 else f"was not killed: {code}"
            )
            yield f"{case} killed after checkpoint {checkpoint}", found

    with tempfile.TemporaryDirectory() as name:
        conclude(trials(Path(name)))


@app.command()
def kill(trials: int = 200, seed: int = 0) -> None:
    """kill -9 at random times, three in five of them inside a save; then the same command."""
    drawn = random.Random(seed)

    def wait_for(output_dir: Path, seconds: float, inside: bool) -> None:
        if not inside:
            return time.sleep(drawn.random() * seconds)
        wait_until(output_dir / f"{retention.STAGING}{3 * drawn.randint(1, 6)}", 3 * seconds)
        time.sleep(drawn.random() * 0.03)

    def one(number: int, case: Case, folder: Path, wanted: dict, seconds: float) -> tuple[str, str]:
        output_dir = folder / f"run-{number}"
        child = start(case, folder, output_dir)
        wait_for(output_dir, seconds, inside=drawn.random() < 0.6)
        os.killpg(child, signal.SIGKILL)
        code = wait(child)
        where = "inside a save" if any(output_dir.glob(f"{retention.STAGING}*")) else "between"
        return f"{number} {case.recipe}, {where}, exit {code}", go_on(
            case, folder, output_dir, wanted
        )

    repeat(trials, one)


@app.command()
def stop(trials: int = 60, seed: int = 0, processes: int = 1, workers: int = 0) -> None:
    """SIGTERM, SIGINT, SIGUSR1 or SIGHUP to one process at random times, in every phase of a run; then the same command
    again. With loader's workers they get it, too, as torchrun and SLURM send it."""
    drawn = random.Random(seed)

    def one(number: int, case: Case, folder: Path, wanted: dict, seconds: float) -> tuple[str, str]:
        output_dir, sent = folder / f"run-{number}", signals.SIGNALS[number % len(signals.SIGNALS)]
        child = start(case, folder, output_dir)
        wait_until(output_dir / PHASES[number // 3 % len(PHASES)], 60)
        time.sleep(drawn.random() * 0.1)
        ranks = (
            json.loads(Path(f"{output_dir}.ranks").read_text("utf-8")) if processes > 1 else [child]
        )
        if workers:
            os.killpg(child, sent)
        else:
            os.kill(drawn.choice(ranks), sent)
        began = time.time()
        code, ended_after = wait(child), time.time() - began
        found = "" if code in (0, 130 if sent == signal.SIGINT else 143) else f"exit code {code}"
        found = found or ("" if ended_after < 5 else f"took {ended_after:.1f} s")
        what = f"{number} {case.recipe}, {sent.name}, exit {code} after {ended_after:.2f} s"
        return what, found or go_on(case, folder, output_dir, wanted)

    repeat(trials, one, processes, workers)


@app.command()
def ranks(trials: int = 20, seed: int = 0) -> None:
    """One of two processes dies, raises or hangs in a step: both are gone in time; then the same command."""
    drawn = random.Random(seed)

    def one(number: int, case: Case, folder: Path, wanted: dict, seconds: float) -> tuple[str, str]:
        output_dir, kind = folder / f"run-{number}", ("dies", "raises", "hangs")[number % 3]
        step = drawn.randint(0, 19)
        child = start(case, folder, output_dir, fails_at_step(step, kind))
        code = wait(child)
        said = Path(f"{output_dir}.log").read_text(encoding="utf-8")
        what = f"{number} {case.recipe}, process 1 {kind} after step {step}, exit {code}"
        if f"where: process 0, after step {step}" not in said:
            return what, f"process 0 does not say where it ended: {said[-1500:]}"
        return what, go_on(case, folder, output_dir, wanted)

    repeat(trials, one, processes=2)


def repeat(
    trials: int, one: Callable[..., tuple[str, str]], processes: int = 1, workers: int = 0
) -> NoReturn:
    """Runs `trials` trials of the recipes in turn, each beside an unstopped run of its case."""
    with tempfile.TemporaryDirectory() as name:
        folder, cases = (
            Path(name),
            [Case(recipe, processes=processes, workers=workers) for recipe in MODELS],
        )
        reference, chosen = (
            Reference(folder),
            [cases[number % len(cases)] for number in range(trials)],
        )
        conclude(
            one(number, case, folder, *reference.of(case)) for number, case in enumerate(chosen)
        )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    app()
