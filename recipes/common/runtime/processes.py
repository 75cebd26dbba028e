"""Lets the processes of a run exchange values, and does some work only once per node."""

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

# Words in the errors of collectives when another process has ended or is too late.
LOST = (
    "gloo",
    "pair closure",
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
)
# How long processes wait for the one that prepares the data. Collectives wait 30 minutes.
PATIENCE = timedelta(days=7)
_waiting: "distributed.ProcessGroup | None" = None  # the group with this patience


def open_group() -> None:
    """Opens the group that exchanges values, however long one process works alone."""
    global _waiting
    _waiting = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Ends the work with the other processes.

    Without this, gloo's threads can abort an interpreter that ends while they run (seen once in
    some hundred runs; pytorch pull request 179291). NCCL complains of a group that was not ended.
    """
    global _waiting
    _waiting = None
    if distributed.is_initialized():
        distributed.destroy_process_group()


def lost_another(error: Exception) -> bool:
    """Whether the error shows that another process has ended or is too late."""
    if isinstance(error, distributed.DistError):
        return True
    return any(words in str(error) for words in LOST)


def rank() -> int:
    """Returns this process's rank in the run, from 0."""
    if not distributed.is_initialized():
        return 0
    return distributed.get_rank()


def exchange(value: object) -> list[Any]:
    """Returns the values of all processes in the order of their ranks. Waits without a limit."""
    if _waiting is None:
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=_waiting)
    return values


def once_per_node(prepare: Callable) -> Callable:
    """Makes one process of each node do the work of a function, for all processes of the node.

    The others read its result; they map large arrays from files. Every process reads a stream
    itself.
    """

    @wraps(prepare)
    def prepared(*arguments: object, **options: object) -> object:
        if _waiting is None or _has_stream([*arguments, *options.values()]):
            return prepare(*arguments, **options)
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank > 0:
            folders = exchange(None)
            result = _read(folders[rank() - local_rank])
            exchange(None)
            return result
        result = prepare(*arguments, **options)
        with working_folder("prepared-") as folder:  # arrays mapped from it stay readable
            _write(result, folder)
            exchange(folder)
            exchange(None)  # all have read it
        return result

    return prepared


def _has_stream(values: list[object]) -> bool:
    return any(getattr(value, "streaming", False) for value in values)


def _write(value: object, folder: Path) -> None:
    buffers: list[pickle.PickleBuffer] = []
    (folder / "value").write_bytes(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
    for number, buffer in enumerate(buffers):
        (folder / str(number)).write_bytes(buffer.raw())


def _read(folder: Path) -> object:
    number_of_buffers = len(list(folder.iterdir())) - 1  # the other file is the value
    buffers = []
    for number in range(number_of_buffers):
        buffers.append(_mapped(folder / str(number)))
    return pickle.loads((folder / "value").read_bytes(), buffers=buffers)


def _mapped(path: Path) -> numpy.ndarray | bytes:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return b""
    return numpy.memmap(path, mode="c")


def check_equal(model: torch.nn.Module) -> None:
    """Refuses to train models that differ between processes.

    Does not look at weights that ZeRO-3 has sharded: they differ by design.
    """
    if _waiting is None:
        return
    first, *others = exchange(_sums(model))
    for number, sums in enumerate(others, 1):
        for name in first:
            if not numpy.isclose(sums.get(name, numpy.nan), first[name], rtol=1e-6):
                fix = "give all of them the same --model_name_or_path, --seed and library versions"
                raise Refusal(f"the models of processes 0 and {number} differ", name, fix)


def _sums(model: torch.nn.Module) -> dict[str, float]:
    sums = {}
    for name, weight in model.named_parameters():
        if not hasattr(weight, "ds_id"):  # ZeRO-3's
            sums[name] = float(weight.detach().double().sum())
    return sums
