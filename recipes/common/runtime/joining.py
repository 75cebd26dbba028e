"""How the processes of a run find each other, as many as were asked for."""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from recipes.common.runtime import environment, processes
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason

# How launchers that start every process themselves say how many there are.
MPI_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def join(training_arguments: Any, asked: int | None) -> None:
    """Begins to work with the other processes; refuses a world of another size than was asked for, or a silent one."""
    _refuse_a_lone_process(training_arguments, asked)
    if training_arguments.deepspeed:
        environment.be_alone()
    with _said_while_waiting():
        _meet(training_arguments)


@contextmanager
def _said_while_waiting() -> Iterator[None]:
    """After ten seconds the processes say whom they wait for: it may be for half an hour."""
    size, host = os.environ.get("WORLD_SIZE", "1"), os.environ.get("MASTER_ADDR", "")
    where = f"{host}:{os.environ.get('MASTER_PORT', '')}"
    waiting = threading.Timer(
        10, note, [f"waiting until all {size} processes have come to {where}"]
    )
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def _meet(training_arguments: Any) -> None:
    try:
        size = training_arguments.world_size  # starts the process group
        if size > 1 and training_arguments.deepspeed:
            import deepspeed

            deepspeed.init_distributed(
                auto_mpi_discovery=False
            )  # or ZeRO-3 builds the model for a world of one
        if distributed.is_initialized():
            processes.open_group()
            # On CPU Trainer starts the group without --ddp_timeout.
            distributed.distributed_c10d._set_pg_timeout(
                timedelta(seconds=training_arguments.ddp_timeout)
            )
            if distributed.get_backend() == "gloo":  # NCCL would wait for a process that failed
                atexit.register(processes.leave)
            count = torch.ones(1, device=training_arguments.device)
            distributed.all_reduce(count)
            if int(count) != size:
                raise RuntimeError(f"{int(count)} of {size} processes answered")
    except (RuntimeError, ValueError) as error:
        where = (
            f"{os.environ.get('MASTER_ADDR', 'this machine')}:{os.environ.get('MASTER_PORT', '')}"
        )
        fix = (
            "check that all were started, with one --main_process_ip and a free --main_process_port"
        )
        raise Refusal(
            f"the processes do not find each other: {reason(error)}", where, fix
        ) from None


def _refuse_a_lone_process(training_arguments: Any, asked: int | None) -> None:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if training_arguments.n_gpu > 1 and not distributed.is_initialized():
        note(
            f"{training_arguments.n_gpu} GPUs, one process: only the first is used; --launcher ddp uses all"
        )
        training_arguments._n_gpu = 1  # or torch.nn.DataParallel splits every batch
    expected = (
        asked
        or _asked_of_accelerate()
        or next((int(os.environ[k]) for k in MPI_SIZES if k in os.environ), 1)
    )
    if asked and size != asked or size < expected:
        fix = f"--launcher ddp --num_processes {expected}, or torchrun --nproc_per_node {expected} run.py"
        raise Refusal(f"asked for {expected} processes, got {size}", "--num_processes", fix)


def _asked_of_accelerate() -> int | None:
    """The number of processes in the command line or configuration of the `accelerate launch` that started this one:
    on CPU it starts one, whatever was asked for, and says nothing."""
    import psutil

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:  # it has ended, or is another user's
        return None
    begin = " ".join(
        words[:4]
    )  # python …/accelerate launch, or python -m accelerate.commands.launch
    if "accelerate" not in begin or "launch" not in begin:
        return None
    if number := _flag(words, "num_processes"):
        return int(number)
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    file = _flag(words, "config_file") or default_config_file
    return load_config_from_file(file).num_processes if Path(file).is_file() else None


def _flag(words: list[str], name: str) -> str:
    """The value of --some_flag, --some-flag or --some_flag=…, or ""."""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.replace("-", "_") == f"__{name}":
            return value if equals else words[place + 1]
    return ""
