"""Where each process stands in a run, one file a process in every checkpoint: its random generators, its loss since the
last log, the time, and what a signal kept from being done."""

from pathlib import Path
from typing import Any

from recipes.common.checkpoints import retention, tensor_files

NUMBERS = dict.fromkeys(("loss", "total_loss", "logged_step", "seconds"), 0)


def write(folder: Path, process: int, place: dict[str, Any]) -> None:
    """Writes NUMBERS and `pending` of a process, and the state of its random generators."""
    folder.mkdir(parents=True, exist_ok=True)
    tensor_files.write(
        {"random": tensor_files.randomness(), "place": place}, _file(folder, process)
    )


def read(checkpoint: Path, process: int, processes: int) -> dict[str, Any]:
    """The place to go on from: process 0's, with the loss of `process`, or the mean where their number differs."""
    with retention.readable(checkpoint):
        found = [_checked(path) for path in sorted(checkpoint.glob(retention.PROCESS.format("*")))]
        own = _file(checkpoint, process)
        if own.exists() and len(found) == processes:
            return found[0] | {"loss": _checked(own)["loss"]}
        return found[0] | {"loss": sum(place["loss"] for place in found) / len(found)}


def restore_randomness(checkpoint: Path, process: int) -> bool:
    """Sets the random generators as the process left them; False where there was no such process."""
    path = _file(checkpoint, process)
    if path.exists():
        with retention.readable(checkpoint):
            tensor_files.set_randomness(tensor_files.read(path)["random"])
    return path.exists()


def _file(folder: Path, process: int) -> Path:
    return folder / retention.PROCESS.format(process)


def _checked(path: Path) -> dict[str, Any]:
    place = tensor_files.read(path)["place"]
    tensor_files.check_like({name: place[name] for name in NUMBERS}, NUMBERS, "place")
    if place["pending"] is not None:
        tensor_files.check_like(place["pending"]["save"], True, "pending")
    return place
