"""Finds the newest intact checkpoint of a run, and decides how many checkpoints are kept.

It also reads what a checkpoint says of its run, and refuses checkpoints that cannot be used.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from recipes.common.checkpoints.atomic_folder import (
    MANIFEST,
    OUTGOING,
    damage,
    delete,
    intact,
    remove,
)
from recipes.common.runtime.disk_errors import FREE_SPACE, disk_error
from recipes.common.runtime.errors import DiskFull, Refusal
from recipes.common.runtime.messages import note

if TYPE_CHECKING:
    from transformers import TrainerState

FINGERPRINT = "fingerprint.json"
PROCESS = "process_{}.safetensors"  # of one process: random generators, its progress
STAGING = ".saving-"
STARTS_OVER = (
    "the same command starts over: checkpoints of --save_only_model hold nothing to continue from"
)
# The errors of reading a file whose content is not what a run writes.
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    EOFError,
    SafetensorError,
    UnpicklingError,
)
NUMBER = (int, float)
OPTIONAL_NUMBER = (int, float, type(None))
# The types of what Trainer reads back from trainer_state.json.
STATE: dict[str, type | tuple[type, ...]] = {
    "global_step": int,
    "max_steps": int,
    "epoch": NUMBER,
    "total_flos": NUMBER,
    "num_input_tokens_seen": NUMBER,
    "best_metric": OPTIONAL_NUMBER,
    "best_global_step": OPTIONAL_NUMBER,
    "log_history": list,
    "stateful_callbacks": dict,
    "best_model_checkpoint": (str, type(None)),
    "train_batch_size": OPTIONAL_NUMBER,
    "num_train_epochs": NUMBER,
}
# States that plain Trainer writes, and would load.
PICKLES = ("scaler.pt", "rng_state*.pth")


def no_states(folder: Path) -> str:
    """Says why training cannot continue from an intact checkpoint; returns "" where it can."""
    is_ours = any(folder.glob(PROCESS.format("*")))
    if not is_ours and any(folder.glob("*.pt")):
        return "it is plain Trainer's, whose states are pickles"
    if not is_ours:
        return "it holds a model alone, as --save_only_model writes it"
    for pattern in PICKLES:
        for path in folder.glob(pattern):
            return f"it holds {path.name}, a pickle that no run here writes"
    return ""


def newest(output_dir: Path) -> Path | None:
    """Returns the intact checkpoint of the highest step, or None.

    Skips damaged ones with a note, and removes half-written ones.
    """
    _rename_whole_ones(output_dir)
    for folder in [*output_dir.glob(f"{STAGING}*"), *output_dir.glob(f"{OUTGOING}*")]:
        delete(folder)
    for folder in sorted(all_of(output_dir), key=step, reverse=True):
        found = damage(folder) or no_states(folder)
        if not found:
            return folder
        note(f"{folder} is skipped: {found}")
    return None


def _rename_whole_ones(output_dir: Path) -> None:
    """Puts whole checkpoints in their place where a run was stopped before it renamed them."""
    for folder in output_dir.glob(f"{STAGING}*/checkpoint-*"):
        final = output_dir / folder.name
        is_whole = not folder.parent.is_symlink() and intact(folder)
        if is_whole and not final.exists():
            folder.rename(final)


def rotate(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Keeps the newest `limit` checkpoints and the best one.

    Folders without a manifest are not ours: they stay.
    """
    if not limit:
        return
    ours = [folder for folder in all_of(output_dir) if (folder / MANIFEST).exists()]
    ours.sort(key=step)
    kept = {folder.name for folder in ours[-1:]}
    if best:
        kept.add(Path(best).name)
    for folder in reversed(ours):
        if len(kept) < limit:
            kept.add(folder.name)
    for folder in ours:
        if folder.name not in kept:
            remove(folder)


def fingerprint(folder: Path) -> dict[str, Any]:
    """Reads what a checkpoint belongs to: its run's flags, data, model and so on.

    Returns an empty dict where the checkpoint does not say so.
    """
    try:
        known = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
        flags, inputs = known["flags"], known["inputs"]
    except (OSError, *UNREADABLE):
        return {}
    if not isinstance(flags, dict) or not isinstance(inputs, dict):
        return {}
    if not isinstance(known.get("rows_per_step"), int):
        return {}
    return known


@contextmanager
def readable(folder: Path | str) -> Iterator[None]:
    """Refuses a checkpoint if the code in this context fails to read it.

    Its content is then not what a run writes, although the manifest lists it.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, UNREADABLE) and "in loading state_dict" not in str(error):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        fix = f"remove {folder}: the same command continues from the checkpoint before it"
        raise Refusal(f"the checkpoint cannot be read: {reason}", str(folder), fix) from error


def check_state(folder: Path, state: "TrainerState") -> None:
    """Refuses a trainer_state.json of another step, or with types that Trainer does not write."""
    with readable(folder):
        for name, kinds in STATE.items():
            value = getattr(state, name)
            if not isinstance(value, kinds):
                raise TypeError(f"{name} is a {type(value).__name__}")
        if is_named(folder) and state.global_step != step(folder):
            raise ValueError(f"global_step is {state.global_step}")
        for entry in state.log_history:
            if not _is_log(entry):
                raise TypeError("log_history holds something that is no number")


def _is_log(entry: dict[str, Any]) -> bool:
    if not isinstance(entry["step"], int):
        return False
    return all(isinstance(value, NUMBER) for value in entry.values())


def check_space(output_dir: Path, needed: int) -> None:
    """Refuses to begin where `needed` bytes do not fit on the disk."""
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        what = f"two checkpoints need {_size(needed)}, {_size(free)} are free"
        fix = "free some space, choose another --output_dir, or --save_strategy no"
        raise DiskFull(what, str(output_dir), fix)


@contextmanager
def removed_if_full(folder: Path, needed: int, only_model: bool = False) -> Iterator[None]:
    """Removes `folder` and raises DiskFull if the disk is full while this context writes."""
    try:
        yield
    except Exception as error:
        reason = disk_error(error)
        if not reason:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free
        what = f"{reason}: a checkpoint needs about {_size(needed)}, {_size(free)} are free"
        fix = f"free some space; {STARTS_OVER}" if only_model else FREE_SPACE
        raise DiskFull(what, str(folder.parent), fix) from None


def _size(number: float) -> str:
    """Returns a number of bytes in words: 1.5 MB."""
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def all_of(output_dir: Path) -> list[Path]:
    """Returns all folders named checkpoint-N."""
    return [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and is_named(path)]


def is_named(folder: Path) -> bool:
    """Whether the folder is called checkpoint-N."""
    return folder.name.startswith("checkpoint-") and folder.name[11:].isdecimal()


def step(folder: Path) -> int:
    """Returns the optimizer step after which the checkpoint was written."""
    return int(folder.name.removeprefix("checkpoint-"))
