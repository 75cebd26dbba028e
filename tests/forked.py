"""Runs of every recipe on tiny data in processes that are forked from this one.

Every module is imported once: a run takes two seconds instead of ten.
"""

import contextlib
import importlib
import json
import math
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from conftest import load_recipe, row

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.runtime import guard
from tools import equivalence

ROWS = 400  # of which 40 are trained on, or the blocks that they fill
# Dropout on: a resumed run must draw the same random numbers.
MODELS = {
    name: [re.sub("(drop[a-z_]*)=0", r"\1=0.1", word) for word in words]
    for name, words in equivalence.MODELS.items()
}
LANGUAGES = ["--source_lang", "en", "--target_lang", "de"]
TIMEOUT = 10  # seconds that one process waits for another
PATIENCE = 10  # seconds within which all processes are gone when one has failed
UNCOMPARED = ("runtime", "per_second", "flos")


@dataclass(frozen=True)
class Case:
    """One cell: a recipe and how its rows are taken."""

    recipe: str
    accumulated: int = 1
    workers: int = 0
    order: str = "random"
    kept: int = 3  # checkpoints
    processes: int = 1

    def flags(self, folder: Path, output_dir: Path) -> list[str]:
        """Two epochs of ten steps of four rows with a checkpoint every three steps."""
        data = folder / f"{self.recipe}.jsonl"
        if not data.exists():
            data.write_text(
                "".join(json.dumps(row(self.recipe, number)) + "\n" for number in range(ROWS)),
                "utf-8",
            )
        words = ["--train_file", str(data), "--validation_file", str(data)]
        words += ["--output_dir", str(output_dir), *MODELS[self.recipe]]
        words += ["--vocab_size", "300", "--bf16", "false"]
        words += LANGUAGES if self.recipe == "translation" else []
        rows = 4 // self.accumulated // self.processes
        words += ["--num_processes", str(self.processes), "--ddp_timeout", str(TIMEOUT)]
        words += ["--per_device_train_batch_size", str(rows), "--per_device_eval_batch_size", "20"]
        words += ["--gradient_accumulation_steps", str(self.accumulated), "--num_train_epochs", "2"]
        words += ["--dataloader_num_workers", str(self.workers)]
        words += "--learning_rate 1e-2 --logging_steps 1 --load_best_model_at_end false".split()
        words += "--eval_strategy steps --eval_steps 5 --save_strategy steps --save_steps 3".split()
        words += ["--save_total_limit", str(self.kept), "--max_eval_samples", "8"]
        if self.order == "streaming" and self.recipe.endswith("pretrain"):
            return [*words, "--streaming", "--max_steps", "20"]
        words += ["--max_train_samples", "40"]
        if self.order == "streaming":
            return [*words, "--streaming"]
        return [*words, "--train_sampling_strategy", self.order]


def start(
    case: Case, folder: Path, output_dir: Path, before: Callable[[], None] | None = None
) -> int:
    """Starts a run in a process group of its own; its number. `before` is called first, in each of its processes."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        if case.processes == 1:
            _run(case, folder, output_dir, before)
        _launch(case, folder, output_dir, before)
    os.setpgid(child, child)
    return child


def _run(case: Case, folder: Path, output_dir: Path, before: Callable[[], None] | None) -> NoReturn:
    try:
        torch.set_num_threads(1)  # of tiny models they would only wait for each other
        log = os.open(f"{output_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if before:
            before()
        guard.run_and_exit(lambda: load_recipe(case.recipe).main(case.flags(folder, output_dir)))
        Path(f"{output_dir}.modules").write_text("\n".join(sys.modules), encoding="utf-8")
        os._exit(0)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def _launch(
    case: Case, folder: Path, output_dir: Path, before: Callable[[], None] | None
) -> NoReturn:
    """Starts every process of the world and ends as the first that failed; the others get PATIENCE to end, too."""
    world = {
        "WORLD_SIZE": case.processes,
        "LOCAL_WORLD_SIZE": case.processes,
        "MASTER_ADDR": "127.0.0.1",
    }
    with socket.socket() as probe:
        probe.bind(("", 0))
        world["MASTER_PORT"] = probe.getsockname()[1]
    ranks = []
    for rank in range(case.processes):
        ranks.append(os.fork())
        if not ranks[-1]:
            numbers = world | {"RANK": rank, "LOCAL_RANK": rank}
            os.environ.update({name: str(value) for name, value in numbers.items()})
            _run(case, folder, output_dir, before)
    Path(f"{output_dir}.ranks").write_text(json.dumps(ranks), encoding="utf-8")
    code, deadline = 0, math.inf
    while ranks:
        child, status = os.waitpid(-os.getpid(), os.WNOHANG)
        if child in ranks:
            ranks.remove(child)
            code = code or os.waitstatus_to_exitcode(status)
        deadline = min(deadline, time.time() + PATIENCE) if code else deadline
        if time.time() > deadline:
            for rank in ranks:
                os.kill(rank, signal.SIGKILL)
        time.sleep(0.005)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def wait(child: int) -> int:
    """The exit code of a process, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def import_all(names: list[str]) -> None:
    """Imports what a run imported, so that processes forked from now on need not."""
    for name in names:
        with contextlib.suppress(Exception):  # some can only be imported by others
            importlib.import_module(name)


def outcome(output_dir: Path) -> dict:
    """What must be the same to the bit: the final weights, the last checkpoint's states, every logged number."""
    last = max(retention.all_of(output_dir), key=retention.step)
    assert atomic_folder.intact(last), atomic_folder.damage(last)
    files = json.loads((last / atomic_folder.MANIFEST).read_text(encoding="utf-8"))["files"]
    state = json.loads((output_dir / "trainer_state.json").read_text(encoding="utf-8"))
    log = [
        {k: v for k, v in entry.items() if not k.endswith(UNCOMPARED)}
        for entry in state["log_history"]
    ]
    tensors = {
        name: files[f"{name}.safetensors"]["sha256"] for name in ("model", "optimizer", "scheduler")
    }
    found = {"log": log, **tensors}
    found["final"] = atomic_folder.entry(output_dir / "model.safetensors")["sha256"]
    results = json.loads((output_dir / "all_results.json").read_text(encoding="utf-8"))
    found["results"] = {
        k: v for k, v in results.items() if not k.endswith((*UNCOMPARED, "preparation_time"))
    }
    return found


def difference(found: dict, wanted: dict) -> str:
    """The first thing that differs, or an empty string."""
    for name in wanted:
        if found[name] != wanted[name]:
            pairs = (
                zip(found[name], wanted[name], strict=False)
                if name == "log"
                else [(found[name], wanted[name])]
            )
            return f"{name}: {next((pair for pair in pairs if pair[0] != pair[1]), 'length')}"
    return ""


class Reference:
    """Holds one run per case that was never stopped, and the seconds that it took."""

    def __init__(self, folder: Path):
        self.folder, self.known = folder, {}

    def of(self, case: Case) -> tuple[dict, float]:
        if case not in self.known:
            output_dir, began = self.folder / f"reference-{len(self.known)}", time.time()
            code = wait(start(case, self.folder, output_dir))
            assert code == 0, Path(f"{output_dir}.log").read_text(encoding="utf-8")[-3000:]
            import_all(Path(f"{output_dir}.modules").read_text(encoding="utf-8").split())
            self.known[case] = outcome(output_dir), time.time() - began
        return self.known[case]


def go_on(case: Case, folder: Path, output_dir: Path, wanted: dict) -> str:
    """Runs the same command to its end; returns what differs from the run that never stopped."""
    held = [path.name for path in retention.all_of(output_dir)]
    code = wait(start(case, folder, output_dir))
    log = Path(f"{output_dir}.log").read_text(encoding="utf-8")
    if code:
        return f"exit code {code}: {log[-1500:]}"
    if held and "resuming from" not in log and "already complete" not in log:
        return f"started over, although there was {held}"
    return difference(outcome(output_dir), wanted)
