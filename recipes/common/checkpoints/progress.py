"""Saves where each process stands in a run: one file per process in every checkpoint.

The file holds the random generators of the process, its loss since the last log, the time, and what
was still to do when a signal came.
"""

from pathlib import Path
from typing import Any

from recipes.common.checkpoints import retention, tensor_files

PROGRESS = "place"  # its name in the file
NUMBERS = {"loss": 0, "total_loss": 0, "logged_step": 0, "seconds": 0}


def write(folder: Path, process: int, progress: dict[str, Any]) -> None:
    """Writes NUMBERS and `pending` of a process, and the state of its random generators."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"random": tensor_files.randomness(), PROGRESS: progress}
    tensor_files.write(state, _file(folder, process))


def read(checkpoint: Path, process: int, processes: int) -> dict[str, Any]:
    """Returns the progress to continue from: that of process 0, with the loss of `process`.

    Where the number of processes differs, the loss is the mean over those of the checkpoint.
    """
    with retention.readable(checkpoint):
        files = sorted(checkpoint.glob(retention.PROCESS.format("*")))
        of_all = list(map(_checked, files))
        own = _file(checkpoint, process)
        if own.exists() and len(of_all) == processes:
            return of_all[0] | {"loss": _checked(own)["loss"]}
        total = sum(progress["loss"] for progress in of_all)
        return of_all[0] | {"loss": total / len(of_all)}


def restore_randomness(checkpoint: Path, process: int) -> bool:
    """Sets the random generators as the process left them.

    Returns False where the checkpoint has no such process.
    """
    path = _file(checkpoint, process)
    if not path.exists():
        return False
    with retention.readable(checkpoint):
        tensor_files.set_randomness(tensor_files.read(path)["random"])
    return True


def _file(folder: Path, process: int) -> Path:
    return folder / retention.PROCESS.format(process)


def _checked(path: Path) -> dict[str, Any]:
    """Reads the progress of a process; raises an error where a value is missing or of another
    type."""
    progress = tensor_files.read(path)[PROGRESS]
    for name, number in NUMBERS.items():
        tensor_files.check_like(progress[name], number, name)
    if progress["pending"] is not None:
        tensor_files.check_like(progress["pending"]["save"], True, "pending")
    return progress
