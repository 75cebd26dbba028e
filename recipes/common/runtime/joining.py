"""Connects the processes of a run, and refuses another number of processes than requested."""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed

from recipes.common.runtime import environment, processes, upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Variables in which launchers that start every process themselves give the number of processes.
MPI_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
QUIET = 10  # seconds before a process says that it waits for others


def join(training_arguments: "TrainingArguments", asked: int | None) -> None:
    """Connects this process with the others of the run.

    Refuses another number of processes than the `asked` one, and processes that do not answer.
    """
    _use_one_gpu(training_arguments)
    _check_number(asked)
    if training_arguments.deepspeed:
        environment.be_alone()
    with _said_while_waiting():
        _meet(training_arguments)


@contextmanager
def _said_while_waiting() -> Iterator[None]:
    """Prints after ten seconds where this process waits: it may wait for half an hour."""
    size = os.environ.get("WORLD_SIZE", "1")
    host = os.environ.get("MASTER_ADDR", "")
    port = os.environ.get("MASTER_PORT", "")
    message = f"waiting until all {size} processes have come to {host}:{port}"
    waiting = threading.Timer(QUIET, note, [message])
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def _meet(training_arguments: "TrainingArguments") -> None:
    try:
        size = training_arguments.world_size  # starts the process group
        if size > 1 and training_arguments.deepspeed:
            import deepspeed

            # Without this call ZeRO-3 builds the model for a single process.
            deepspeed.init_distributed(auto_mpi_discovery=False)
        if distributed.is_initialized():
            _set_up_group(training_arguments.ddp_timeout)
            count = torch.ones(1, device=training_arguments.device)
            distributed.all_reduce(count)
            if int(count) != size:
                raise RuntimeError(f"{int(count)} of {size} processes answered")
    except (RuntimeError, ValueError) as error:
        host = os.environ.get("MASTER_ADDR", "this machine")
        where = f"{host}:{os.environ.get('MASTER_PORT', '')}"
        what = f"the processes do not find each other: {reason(error)}"
        fix = (
            "check that all were started, with one --main_process_ip and a free --main_process_port"
        )
        raise Refusal(what, where, fix) from None


def _set_up_group(timeout: int) -> None:
    processes.open_group()
    # On CPU Trainer starts the group without --ddp_timeout.
    upstream.set_group_timeout(timeout)
    if distributed.get_backend() == "gloo":  # NCCL would wait for a process that failed
        atexit.register(processes.leave)


def _use_one_gpu(training_arguments: "TrainingArguments") -> None:
    """Lets a single process train on one GPU: torch.nn.DataParallel would split every batch."""
    gpus = training_arguments.n_gpu
    if gpus > 1 and not distributed.is_initialized():
        note(f"{gpus} GPUs, one process: only the first is used; --launcher ddp uses all")
        upstream.use_one_gpu(training_arguments)


def _check_number(asked: int | None) -> None:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    expected = asked or _asked_of_accelerate() or _asked_of_mpi()
    if size < expected or (asked and size != asked):
        fix = (
            f"--launcher ddp --num_processes {expected}, "
            f"or torchrun --nproc_per_node {expected} run.py"
        )
        raise Refusal(f"asked for {expected} processes, got {size}", "--num_processes", fix)


def _asked_of_mpi() -> int:
    for name in MPI_SIZES:
        if name in os.environ:
            return int(os.environ[name])
    return 1


def _asked_of_accelerate() -> int | None:
    """Returns the number of processes that the user asked `accelerate launch` for, if it ran.

    The number stands in the launcher's command line or configuration. On CPU the launcher starts
    one process whatever the number is, and says nothing.
    """
    import psutil

    try:
        parent = psutil.Process().parent()
        words = []
        if parent:
            words = parent.cmdline()
    except psutil.Error:  # the launcher has ended, or is another user's process
        return None
    # python …/accelerate launch, or python -m accelerate.commands.launch
    start = " ".join(words[:4])
    if "accelerate" not in start or "launch" not in start:
        return None
    number = _flag(words, "num_processes")
    if number:
        return int(number)
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    file = _flag(words, "config_file") or default_config_file
    if not Path(file).is_file():
        return None
    return load_config_from_file(file).num_processes


def _flag(words: list[str], name: str) -> str:
    """Returns the value of --some_flag, --some-flag or --some_flag=…, or ""."""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.replace("-", "_") == f"__{name}":
            if equals:
                return value
            return words[place + 1]
    return ""
