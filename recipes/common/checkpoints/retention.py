"""Checkpoints of a run: the newest intact one, how many are kept, and what they say of the run."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

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

FINGERPRINT = "fingerprint.json"
PROCESS = (
    "process_{}.safetensors"  # what belongs to one process: random generators, its place in the run
)
STAGING = ".saving-"
STARTS_OVER = (
    "the same command starts over: checkpoints of --save_only_model hold nothing to go on from"
)
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
UNREADABLE += (EOFError, SafetensorError, UnpicklingError)
NUMBER, PERHAPS = (int, float), (int, float, type(None))
# The types of what Trainer reads back from trainer_state.json.
STATE = {
    "global_step": int,
    "max_steps": int,
    "epoch": NUMBER,
    "total_flos": NUMBER,
    "num_input_tokens_seen": NUMBER,
}
STATE |= {
    "best_metric": PERHAPS,
    "best_global_step": PERHAPS,
    "log_history": list,
    "stateful_callbacks": dict,
}
STATE |= {
    "best_model_checkpoint": (str, type(None)),
    "train_batch_size": PERHAPS,
    "num_train_epochs": NUMBER,
}


def no_states(folder: Path) -> str:
    """Why training cannot go on from an intact checkpoint, in words; empty where it can."""
    if any(folder.glob(PROCESS.format("*"))):
        return ""
    if any(folder.glob("*.pt")):
        return "it is plain Trainer's, whose states are pickles"
    return "it holds a model alone, as --save_only_model writes it"


def newest(output_dir: Path) -> Path | None:
    """The intact checkpoint of the highest step; damaged ones are passed over, half-written ones removed."""
    for folder in output_dir.glob(f"{STAGING}*/checkpoint-*"):
        own = not folder.parent.is_symlink() and intact(folder)
        if own and not (output_dir / folder.name).exists():  # stopped before its renaming
            folder.rename(output_dir / folder.name)
    for folder in [*output_dir.glob(f"{STAGING}*"), *output_dir.glob(f"{OUTGOING}*")]:
        delete(folder)
    for folder in sorted(all_of(output_dir), key=step, reverse=True):
        found = damage(folder) or no_states(folder)
        if not found:
            return folder
        note(f"{folder} is passed over: {found}")
    return None


def rotate(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Keeps the newest `limit` checkpoints and the best one; folders without a manifest are not ours."""
    if not limit:
        return
    ours = sorted(
        (folder for folder in all_of(output_dir) if (folder / MANIFEST).exists()), key=step
    )
    kept = {folder.name for folder in ours[-1:]} | ({Path(best).name} if best else set())
    for folder in reversed(ours):
        if len(kept) < limit:
            kept.add(folder.name)
    for folder in ours:
        if folder.name not in kept:
            remove(folder)


def fingerprint(folder: Path) -> dict[str, Any]:
    """What a checkpoint belongs to: its run's flags, data, model and so on; empty where it does not say so."""
    try:
        known = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
        readable = isinstance(known["flags"], dict) and isinstance(known["inputs"], dict)
    except (OSError, *UNREADABLE):
        return {}
    return known if readable and isinstance(known.get("rows_a_step"), int) else {}


@contextmanager
def readable(folder: Path | str) -> Iterator[None]:
    """What is read inside is a checkpoint's: content that no run writes, although the manifest lists it, is refused."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UNREADABLE) and "in loading state_dict" not in str(error):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        fix = f"remove {folder}: the same command goes on from the checkpoint before it"
        raise Refusal(f"the checkpoint cannot be read: {reason}", str(folder), fix) from error


def check_state(folder: Path, state: Any) -> None:
    """Refuses a trainer_state.json of another step, or with values of other types than Trainer writes."""
    with readable(folder):
        wrong = [
            name for name, kinds in STATE.items() if not isinstance(getattr(state, name), kinds)
        ]
        if wrong:
            raise TypeError(f"{wrong[0]} is a {type(getattr(state, wrong[0])).__name__}")
        if is_named(folder) and state.global_step != step(folder):
            raise ValueError(f"global_step is {state.global_step}")
        for entry in state.log_history:
            if not isinstance(entry["step"], int) or not all(
                isinstance(value, NUMBER) for value in entry.values()
            ):
                raise TypeError("log_history holds what is no number")


def check_space(output_dir: Path, needed: int) -> None:
    """Refuses to begin where `needed` bytes do not fit on the disk."""
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        fix = "free some space, choose another --output_dir, or --save_strategy no"
        raise DiskFull(
            f"two checkpoints need {_size(needed)}, {_size(free)} are free", str(output_dir), fix
        )


@contextmanager
def room(folder: Path, needed: int, only_model: bool = False) -> Iterator[None]:
    """What is written inside either fits, or leaves nothing behind in `folder`, and says what was missing."""
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
    units = iter(("bytes", "KB", "MB", "GB"))
    unit = next(units)
    while number >= 1000 and unit != "GB":
        number, unit = number / 1000, next(units)
    return f"{number:.3g} {unit}"


def all_of(output_dir: Path) -> list[Path]:
    """All folders named checkpoint-N."""
    return [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and is_named(path)]


def is_named(folder: Path) -> bool:
    """Whether the folder is called checkpoint-N."""
    return folder.name.startswith("checkpoint-") and folder.name[11:].isdecimal()


def step(folder: Path) -> int:
    """The optimizer step after which the checkpoint was written."""
    return int(folder.name.removeprefix("checkpoint-"))
