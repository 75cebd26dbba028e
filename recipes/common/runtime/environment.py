"""What the environment's variables say of a run's processes: a launcher's words, or what an earlier shell left over."""

import os
import socket

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
ENGINES = (
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
)  # of accelerate launch
UNSET = "unset RANK LOCAL_RANK WORLD_SIZE; or start all processes with --launcher ddp or torchrun"


def settle() -> None:
    """Forgets variables that name a place among processes which no launcher has started; refuses half of a launcher's.

    Of one process they say nothing; of several, the others would be waited for without end.
    """
    size = _number("WORLD_SIZE")
    if size is None or (size == 1 and not _is_launched()):
        _forget([name for name in RANKS if name in os.environ])
    elif size > 1:
        missing = [name for name in ("RANK", *ADDRESS) if not os.environ.get(name)]
        if missing:
            what = f"WORLD_SIZE is {size}, but {' and '.join(missing)} not set: no launcher started this process"
            raise Refusal(what, "the environment", UNSET)
        rank = _number("RANK")
        if rank is None or not 0 <= rank < size:
            raise Refusal(
                f"RANK is {os.environ['RANK']}, but WORLD_SIZE {size}", "the environment", UNSET
            )
    if "WORLD_SIZE" not in os.environ:
        _forget(
            [name for name in ENGINES if os.environ.get(name, "false").lower() in ("true", "1")]
        )


def be_alone() -> None:
    """Gives a process that no launcher started a world of its own, which DeepSpeed looks for in MPI otherwise."""
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


def _is_launched() -> bool:
    return all(os.environ.get(name) for name in ("RANK", *ADDRESS))


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise Refusal(f"{name} is {value!r}, no number", "the environment", UNSET) from None


def _forget(names: list[str]) -> None:
    found = [f"{name}={os.environ.pop(name)}" for name in names]
    if found:
        note(
            f"{', '.join(found)} in the environment is passed over: no launcher started processes, this one is alone"
        )
