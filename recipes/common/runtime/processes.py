"""The processes of a run: their numbers, what they exchange, and work that one of each node does for all."""

import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import distributed

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.safe_folders import working_folder

LOST = (
    "gloo",
    "pair closure",
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
)
PATIENCE = timedelta(
    days=7
)  # how long processes wait for the one that prepares the data; collectives wait 30 minutes
_waiting: Any = None  # the process group that waits so long


def open_group() -> None:
    """Opens the group through which the processes exchange values, however long one of them works alone."""
    global _waiting
    _waiting = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Ends the work with the other processes: gloo's threads can abort an interpreter that ends while they run (seen
    once in some hundred runs; pytorch pull request 179291), and NCCL complains of a group that nobody ended."""
    global _waiting
    _waiting = None
    if distributed.is_initialized():
        distributed.destroy_process_group()


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
    paths = sorted(
        (path for path in folder.iterdir() if path.name != "value"), key=lambda path: int(path.name)
    )
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
        differing = [
            name
            for name in first
            if not numpy.isclose(found.get(name, numpy.nan), first[name], 1e-6)
        ]
        if differing:
            fix = "give all of them the same --model_name_or_path, --seed and library versions"
            raise Refusal(f"the models of processes 0 and {number} differ", differing[0], fix)
