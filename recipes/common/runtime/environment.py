"""Checks the environment variables that describe a run's processes.

A launcher sets them for the processes that it starts. They may also be left over from earlier work
in the same shell.
"""

import os
import socket
from collections.abc import Iterable

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
# Which engine `accelerate launch` has chosen.
ENGINES = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM")
UNSET = "unset RANK LOCAL_RANK WORLD_SIZE; or start all processes with --launcher ddp or torchrun"


def settle() -> None:
    """Removes a launcher's variables where no launcher started this process.

    Refuses incomplete variables for several processes: this process would wait for the others for
    ever.
    """
    size = _number("WORLD_SIZE")
    if size is None or (size == 1 and not _is_launched()):
        _remove(RANKS)
    elif size > 1:
        _check_rank(size)
    if "WORLD_SIZE" not in os.environ:
        _remove(filter(_is_on, ENGINES))


def be_alone() -> None:
    """Sets a launcher's variables for a run of one process that no launcher started.

    Without them, DeepSpeed would ask MPI for the other processes.
    """
    if "WORLD_SIZE" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def _check_rank(size: int) -> None:
    missing = [name for name in ("RANK", *ADDRESS) if not os.environ.get(name)]
    if missing:
        names = " and ".join(missing)
        what = f"WORLD_SIZE is {size}, without {names}: no launcher started this process"
        raise Refusal(what, "the environment", UNSET)
    rank = _number("RANK")
    if rank is None or not 0 <= rank < size:
        what = f"RANK is {os.environ['RANK']}, but WORLD_SIZE is {size}"
        raise Refusal(what, "the environment", UNSET)


def _is_launched() -> bool:
    return all(map(os.environ.get, ("RANK", *ADDRESS)))


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        what = f"{name} is {value!r}, not a number"
        raise Refusal(what, "the environment", UNSET) from None


def _remove(names: Iterable[str]) -> None:
    removed = []
    for name in names:
        if name in os.environ:
            removed.append(f"{name}={os.environ.pop(name)}")
    if removed:
        shown = ", ".join(removed)
        note(f"{shown} in the environment is ignored: no launcher started this process")
