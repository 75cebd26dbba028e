"""Whether two runs are the same: by their flags, and by what the files that they read hold, wherever those lie."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.common.config.flags import DATA_FILES
from recipes.common.data import readers, sources
from recipes.common.runtime import hashing

# Flags that change what is shown or where a run goes on, not what is learned.
FREE_TO_CHANGE = {
    "logging_steps",
    "disable_tqdm",
    "report_to",
    "run_name",
    "save_total_limit",
    "log_level",
    "use_cpu",
}
FREE_TO_CHANGE |= {
    "num_processes",
    "save_steps",
    "dataloader_num_workers",
    "dataloader_prefetch_factor",
}
FREE_TO_CHANGE |= {
    "per_device_eval_batch_size",
    "eval_accumulation_steps",
    "gradient_checkpointing",
}
FREE_TO_CHANGE |= {"activation_checkpointing", "ddp_timeout", "preprocessing_num_workers"}
FREE_TO_CHANGE |= {
    "prepared_dir",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "output_dir",
}
SPLIT = {
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
}  # of a step, into processes and micro-batches
PREDICTED = {"do_predict", "max_predict_samples"}  # what is done after a training
LENGTH = ("max_steps", "num_train_epochs")
FOLDERS = (
    "model_name_or_path",
    "tokenizer_name",
    "config_name",
)  # flags whose value may be a folder
RECIPE = "run.py"  # the name of the recipe's code among what a run reads


@dataclass(frozen=True)
class Run:
    """A run as it was asked for: every resolved flag, the command, the recipe's run.py."""

    flags: dict[str, Any]
    command: str
    recipe: Path

    @property
    def output_dir(self) -> Path:
        """The folder of the run."""
        return Path(self.flags["output_dir"])

    @property
    def rows_a_step(self) -> int:
        """Rows (with --tokens_per_batch: batches) of a step over all processes."""
        return rows_a_step(self.flags, int(os.environ.get("WORLD_SIZE", "1")))

    @cached_property
    def inputs(self) -> dict[str, dict[str, str]]:
        """The path and the hash of what the run reads beside its data: the recipe, models, tokenizers, settings."""
        flags = {name: value for name, value in self.flags.items() if isinstance(value, str)}
        paths = {name: Path(value) for name, value in flags.items() if _is_read(name, value)}
        paths[RECIPE] = self.recipe
        return {
            name: {"path": str(path), "sha256": hashing.hash_of(path)}
            for name, path in paths.items()
        }


def _is_read(name: str, value: str) -> bool:
    """Whether a flag's value is a file, or a folder with a model, of this machine."""
    try:
        return os.path.isfile(value) or (name in FOLDERS and os.path.isdir(value))
    except ValueError:  # a NUL in it
        return False


def rows_a_step(flags: dict[str, Any], processes: int) -> int:
    """Rows (with --tokens_per_batch: batches) that so many processes take in a step."""
    rows = 1 if flags.get("tokens_per_batch") else flags["per_device_train_batch_size"]
    return rows * flags["gradient_accumulation_steps"] * processes


def changed_flags(known: dict[str, Any], run: Run, rows: int, inputs: dict[str, str]) -> list[str]:
    """The flags that differ from those of a `known` run with so many `rows` a step and the hashes of its `inputs`.

    Files of data count by their content alone, which is compared once it was read; so do folders of models.
    """
    free = FREE_TO_CHANGE | {*DATA_FILES} | (SPLIT if rows == run.rows_a_step else set())
    free |= {name for name in run.inputs if name in inputs}
    names = sorted({*known, *run.flags} - free)
    return [
        name for name in names if _plain(name, known.get(name)) != _plain(name, run.flags.get(name))
    ]


def changed_inputs(known: dict[str, str], run: Run) -> list[str]:
    """What the run reads beside its data (`run.py`, or a flag), and holds something else than it did."""
    return [
        name for name, one in run.inputs.items() if name in known and known[name] != one["sha256"]
    ]


def _plain(name: str, value: Any) -> Any:
    """The value; a path without needless dots and slashes."""
    is_path = (
        isinstance(value, str) and name in (*FOLDERS, "dataset_name") and os.path.exists(value)
    )
    return os.path.realpath(value) if is_path else value


def shown(names: Collection[str], known: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs, in words: `--seed 42 -> 7`, or the name of what was read."""
    flags = [
        f"--{name} {known.get(name)} -> {now.get(name)}"
        for name in names
        if known.get(name) != now.get(name)
    ]
    others = [f"another content of {name}" for name in names if known.get(name) == now.get(name)]
    return "; ".join([*flags, *others])


def other_data(facts: dict[str, Any], flags: dict[str, Any], run: Run) -> str:
    """The first file of the run's data that a recorded run with these facts and flags has not read as it is now; ""
    where there is none. Files that are gone count for nothing."""
    recorded = facts.get("data_sha256", {})
    is_gone = not all(map(os.path.isfile, recorded))
    for split, hashes in facts.get("data", {}).items():
        patterns = run.flags.get(f"{split}_file")
        if not patterns or (is_gone and patterns == flags.get(f"{split}_file")):
            continue
        paths = _paths([patterns] if isinstance(patterns, str) else patterns, split)
        found = [hashing.content_hash(path) for path in paths]
        if found != hashes:
            return next(
                (str(path) for path, one in zip(paths, found, strict=True) if one not in hashes),
                patterns[0],
            )
    named = any(run.flags.get(name) for name in DATA_FILES)
    return "" if named else next(_rewritten(recorded), "")


def _paths(patterns: list[str], split: str) -> list[Path]:
    """The files that paths, folders and globs name, in order, each once; empty ones add nothing."""
    names = sources.SPLIT_NAMES[split]
    found = (path for pattern in patterns for path in readers.matching(pattern, names))
    return [path for path in dict.fromkeys(found) if path.stat().st_size]


def _rewritten(recorded: dict[str, str]) -> Iterator[str]:
    for name, known in recorded.items():
        if os.path.isfile(name) and hashing.content_hash(Path(name)) != known:
            yield name


def length_may_change(flags: dict[str, Any]) -> bool:
    """Whether a run is the beginning of a longer one: nothing that is done in a step, and no choice of the best model,
    depends on how many steps there will be."""
    warmup, schedule = flags.get("warmup_steps", 0), flags.get("lr_scheduler_type", "linear")
    absolute = warmup == 0 or warmup >= 1
    constant = schedule == "constant" or (
        schedule in ("constant_with_warmup", "inverse_sqrt") and absolute
    )
    chooses = flags.get("load_best_model_at_end") or flags.get("early_stopping_patience")
    shares = [flags.get(name) for name in ("eval_steps", "save_steps")]
    return constant and not (
        chooses and any(share is not None and 0 < share < 1 for share in shares)
    )


def is_longer(run: Run, known: dict[str, Any]) -> bool:
    """Whether the run has more steps than the known one, as far as the flags tell."""
    now, before = (_length(flags) for flags in (run.flags, known))
    return now[0] != before[0] or now[1] > before[1]


def _length(flags: dict[str, Any]) -> tuple[str, float]:
    name = LENGTH[0] if flags.get(LENGTH[0], -1) > 0 else LENGTH[1]
    return name, flags.get(name, 3)
