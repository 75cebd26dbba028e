"""Decides whether two runs are the same.

Their flags are compared, and the content of the files that they read, wherever those lie.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.common.config import step_sizes
from recipes.common.config.flags import DATA_FILES
from recipes.common.data import found_files, sources
from recipes.common.runtime import hashing

# How a step is split into processes and micro-batches.
SPLIT = {"per_device_train_batch_size", "gradient_accumulation_steps"}
PREDICTED = {"do_predict", "max_predict_samples"}  # what is done after a training
LENGTH = ("max_steps", "num_train_epochs")
# Flags whose value may be a folder.
FOLDERS = ("model_name_or_path", "tokenizer_name", "config_name")
RECIPE = "run.py"  # the name of the recipe's code among what a run reads


@dataclass(frozen=True)
class Run:
    """A requested run: every resolved flag, the command, the recipe's run.py.

    `free` are the flags that change what is shown, where files lie or where a run continues, not
    what is learned.
    """

    flags: dict[str, Any]
    command: str
    recipe: Path
    free: frozenset[str] = frozenset()

    @property
    def output_dir(self) -> Path:
        """The folder of the run."""
        return Path(self.flags["output_dir"])

    @property
    def rows_per_step(self) -> int:
        """Rows (with --tokens_per_batch: batches) of a step over all processes."""
        return rows_per_step(self.flags, step_sizes.number_of_processes())

    @cached_property
    def inputs(self) -> dict[str, dict[str, str]]:
        """The path and the hash of what the run reads beside its data.

        That is the recipe, models, tokenizers and settings.
        """
        found = {}
        for name, value in self.flags.items():
            if isinstance(value, str) and _is_read(name, value):
                found[name] = _entry(Path(value))
        found[RECIPE] = _entry(self.recipe)
        return found


def _is_read(name: str, value: str) -> bool:
    """Whether a flag's value is a file, or a folder with a model, of this machine."""
    try:
        return os.path.isfile(value) or (name in FOLDERS and os.path.isdir(value))
    except ValueError:  # a NUL in it
        return False


def _entry(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hashing.hash_of(path)}


def rows_per_step(flags: dict[str, Any], processes: int) -> int:
    """Returns the rows (with --tokens_per_batch: batches) of a step over all `processes`."""
    rows = flags["per_device_train_batch_size"]
    if flags.get("tokens_per_batch"):
        rows = 1
    return step_sizes.rows_per_step(rows, flags["gradient_accumulation_steps"], processes)


def changed_flags(known: dict[str, Any], run: Run, rows: int, inputs: dict[str, str]) -> list[str]:
    """Returns the flags of the run that differ from the `known` flags of another run.

    The other run had `rows` rows per step. `inputs` holds hashes of what it read. Data files and
    model folders are left out: only their content counts, which is compared after it was read.
    """
    free = run.free | {*DATA_FILES} | (run.inputs.keys() & inputs.keys())
    if rows == run.rows_per_step:
        free |= SPLIT
    changed = []
    for name in sorted({*known, *run.flags} - free):
        if _plain(name, known.get(name)) != _plain(name, run.flags.get(name)):
            changed.append(name)
    return changed


def changed_inputs(known: dict[str, str], run: Run) -> list[str]:
    """Returns which of the inputs that the run reads beside its data have another content now.

    Each is the name of a flag, or `run.py`.
    """
    changed = []
    for name, entry in run.inputs.items():
        if name in known and known[name] != entry["sha256"]:
            changed.append(name)
    return changed


def _plain(name: str, value: Any) -> Any:
    """Returns the value; a path without needless dots and slashes."""
    is_path = isinstance(value, str) and name in (*FOLDERS, "dataset_name")
    if is_path and os.path.exists(value):
        return os.path.realpath(value)
    return value


def shown(names: Collection[str], known: dict[str, Any], now: dict[str, Any]) -> str:
    """Returns what differs, in words: `--seed 42 -> 7`, or the name of what was read."""
    flags, others = [], []
    for name in names:
        if known.get(name) != now.get(name):
            flags.append(f"--{name} {known.get(name)} -> {now.get(name)}")
        else:
            others.append(f"another content of {name}")
    return "; ".join([*flags, *others])


def other_data(facts: dict[str, Any], flags: dict[str, Any], run: Run) -> str:
    """Returns the run's first data file that a recorded run did not read with its present content.

    `facts` and `flags` are the recorded run's. Files that are gone do not count. Returns "" where
    there is no such file.
    """
    recorded = facts.get("data_sha256", {})
    is_gone = not all(map(os.path.isfile, recorded))
    for split, hashes in facts.get("data", {}).items():
        patterns = run.flags.get(f"{split}_file")
        if not patterns or (is_gone and patterns == flags.get(f"{split}_file")):
            continue
        if isinstance(patterns, str):
            patterns = [patterns]
        paths = _paths(patterns, split)
        found = [hashing.content_hash(path) for path in paths]
        if found != hashes:
            return _first_new(paths, found, hashes) or patterns[0]
    if any(map(run.flags.get, DATA_FILES)):
        return ""
    return next(_rewritten(recorded), "")


def _paths(patterns: Sequence[str], split: str) -> list[Path]:
    """Returns the files that paths, folders and globs name, in order, each once.

    Empty files are left out.
    """
    found: list[Path] = []
    for pattern in patterns:
        found += found_files.matching(pattern, sources.SPLIT_NAMES[split])
    return [path for path in dict.fromkeys(found) if path.stat().st_size]


def _first_new(paths: Sequence[Path], found: Sequence[str], hashes: Collection[str]) -> str:
    """Returns the first path whose hash, in `found`, is not among `hashes`; "" where all are."""
    for path, digest in zip(paths, found, strict=True):
        if digest not in hashes:
            return str(path)
    return ""


def _rewritten(recorded: dict[str, str]) -> Iterator[str]:
    for name, known in recorded.items():
        if os.path.isfile(name) and hashing.content_hash(Path(name)) != known:
            yield name


def length_may_change(flags: dict[str, Any]) -> bool:
    """Whether a run is the same as the beginning of a longer one.

    This is so if the number of steps changes neither a step nor the choice of the best model.
    """
    warmup = flags.get("warmup_steps", 0)
    schedule = flags.get("lr_scheduler_type", "linear")
    is_absolute = warmup == 0 or warmup >= 1  # otherwise it is a share of the steps
    if schedule not in ("constant", "constant_with_warmup", "inverse_sqrt"):
        return False
    if schedule != "constant" and not is_absolute:
        return False
    chooses = flags.get("load_best_model_at_end") or flags.get("early_stopping_patience")
    return not (chooses and _has_shares(flags))


def _has_shares(flags: dict[str, Any]) -> bool:
    """Whether the run evaluates, or saves, after a share of its steps."""
    for name in ("eval_steps", "save_steps"):
        value = flags.get(name)
        if value is not None and 0 < value < 1:
            return True
    return False


def is_longer(run: Run, known: dict[str, Any]) -> bool:
    """Whether the run has more steps than the known one, as far as the flags tell."""
    unit, number = _length(run.flags)
    known_unit, known_number = _length(known)
    return unit != known_unit or number > known_number


def _length(flags: dict[str, Any]) -> tuple[str, float]:
    steps, epochs = LENGTH
    if flags.get(steps, -1) > 0:
        return steps, flags[steps]
    return epochs, flags.get(epochs, 3)
