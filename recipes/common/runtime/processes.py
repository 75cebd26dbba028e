"""The processes of a run: as many as were asked for, one of each node prepares the data, all begin with one model."""

import atexit
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import distributed

from recipes.common.runtime import environment
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason
from recipes.common.runtime.safe_folders import working_folder

# How launchers that start every process themselves say how many there are.
MPI_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
PATIENCE = timedelta(days=7)  # how long processes wait for the one that prepares the data; collectives wait 30 minutes
LOST = ("gloo", "pair closure", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
_waiting: Any = None  # the process group that waits so long


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
    waiting = threading.Timer(10, note, [f"waiting until all {size} processes have come to {where}"])
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def _meet(training_arguments: Any) -> None:
    global _waiting
    try:
        size = training_arguments.world_size  # starts the process group
        if size > 1 and training_arguments.deepspeed:
            import deepspeed

            deepspeed.init_distributed(auto_mpi_discovery=False)  # or ZeRO-3 builds the model for a world of one
        if distributed.is_initialized():
            _waiting = distributed.new_group(backend="gloo", timeout=PATIENCE)
            # On CPU Trainer starts the group without --ddp_timeout.
            distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=training_arguments.ddp_timeout))
            if distributed.get_backend() == "gloo":  # NCCL would wait for a process that failed
                atexit.register(leave)
            count = torch.ones(1, device=training_arguments.device)
            distributed.all_reduce(count)
            if int(count) != size:
                raise RuntimeError(f"{int(count)} of {size} processes answered")
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR', 'this machine')}:{os.environ.get('MASTER_PORT', '')}"
        fix = "check that all were started, with one --main_process_ip and a free --main_process_port"
        raise Refusal(f"the processes do not find each other: {reason(error)}", where, fix) from None


def leave() -> None:
    """Ends the work with the other processes: gloo's threads can abort an interpreter that ends while they run (seen
    once in some hundred runs; pytorch pull request 179291), and NCCL complains of a group that nobody ended."""
    global _waiting
    _waiting = None
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _refuse_a_lone_process(training_arguments: Any, asked: int | None) -> None:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if training_arguments.n_gpu > 1 and not distributed.is_initialized():
        note(f"{training_arguments.n_gpu} GPUs, one process: only the first is used; --launcher ddp uses all")
        training_arguments._n_gpu = 1  # or torch.nn.DataParallel splits every batch
    expected = asked or _asked_of_accelerate() or next((int(os.environ[k]) for k in MPI_SIZES if k in os.environ), 1)
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
    begin = " ".join(words[:4])  # python …/accelerate launch, or python -m accelerate.commands.launch
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


def lost_another(error: Exception) -> bool:
    """Whether the error is what a process sees of another one that ended, or that keeps it waiting too long."""
    return isinstance(error, distributed.DistError) or any(words in str(error) for words in LOST)


def rank() -> int:
    """This process's number in the world, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def exchange(value: Any) -> list[Any]:
    """What every process gave, by rank; waits as long as it takes."""
    if _waiting is None:
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=_waiting)
    return values


def once_per_node(prepare: Callable) -> Callable:
    """A function whose work one process of each node does; the others read its result, large arrays by memory map.

    Not for streams: every process reads those itself.
    """

    @wraps(prepare)
    def prepared(*arguments: Any, **options: Any) -> Any:
        given = (*arguments, *options.values())
        if _waiting is None or any(getattr(value, "streaming", False) for value in given):
            return prepare(*arguments, **options)
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local:
            result = _read(exchange(None)[rank() - local])
            exchange(None)
            return result
        result = prepare(*arguments, **options)
        with working_folder("prepared-") as folder:  # what is mapped from it stays readable
            _write(result, folder)
            exchange(folder)
            exchange(None)  # all have read it
        return result

    return prepared


def _write(value: Any, folder: Path) -> None:
    buffers: list[pickle.PickleBuffer] = []
    (folder / "value").write_bytes(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
    for number, buffer in enumerate(buffers):
        (folder / str(number)).write_bytes(buffer.raw())


def _read(folder: Path) -> Any:
    paths = sorted((path for path in folder.iterdir() if path.name != "value"), key=lambda path: int(path.name))
    buffers = [numpy.memmap(path, mode="c") if path.stat().st_size else b"" for path in paths]
    return pickle.loads((folder / "value").read_bytes(), buffers=buffers)


def check_equal(model: torch.nn.Module) -> None:
    """Refuses to train models that differ between processes; ZeRO-3's parts differ by design and are passed over."""
    if _waiting is None:
        return
    whole = {name: value for name, value in model.named_parameters() if not hasattr(value, "ds_id")}
    sums = {name: float(value.detach().double().sum()) for name, value in whole.items()}
    first, *others = exchange(sums)
    for number, found in enumerate(others, 1):
        differing = [name for name in first if not numpy.isclose(found.get(name, numpy.nan), first[name], 1e-6)]
        if differing:
            fix = "give all of them the same --model_name_or_path, --seed and library versions"
            raise Refusal(f"the models of processes 0 and {number} differ", differing[0], fix)
