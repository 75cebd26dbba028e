"""Writes a run's record into its folder when the run begins, and reads what an earlier run left.

The record is run.yaml and run.json.
"""

import errno
import itertools
import json
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
import yaml

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.config import step_sizes
from recipes.common.config.flags import ROOT
from recipes.common.config.yaml_files import PlainLoader
from recipes.common.model.model_folders import ADAPTED
from recipes.common.report.run_identity import LENGTH, Run
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.hashing import content_hash
from recipes.common.runtime.secrets import masked

if TYPE_CHECKING:
    from transformers import TrainingArguments

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "accelerate",
    "peft",
    "evaluate",
    "scikit-learn",
)
RESULTS = ("all_results.json", "train_results.json", "eval_results.json", "predict_results.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
MODEL = ("config.json", "generation_config.json", "adapter_config.json", *WEIGHTS)
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "source.spm",
    "target.spm",
    "sentencepiece.bpe.model",
    "spiece.model",
)
OTHERS = (
    "README.md",
    "run.yaml",
    "run.json",
    "predictions.jsonl",
    "trainer_state.json",
    "not_finite.json",
)
LOCK = ".lock"
# Raised by records that no run of these recipes has written.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    yaml.YAMLError,
)
_locks: list[IO] = []


def folder_of(arguments: "TrainingArguments") -> Path:
    """Returns the folder that a training writes into."""
    return Path(arguments.output_dir or "trainer_output")  # the latter is Trainer's default


def lock(folder: Path) -> None:
    """Keeps other processes out of the folder as long as this one lives.

    Child processes do not inherit the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("w")
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        fix = "name a folder that you may write"
        raise Refusal(f"cannot write: {error.strerror}", f"--output_dir {folder}", fix) from None
    if fcntl is None:
        return
    _locks.append(stream)  # closing it would unlock
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            return
        fix = "wait for it, stop it, or choose another --output_dir"
        raise Refusal(f"another process trains in {folder}", "--output_dir", fix) from None


def begin(run: Run, overwrite: bool) -> None:
    """Writes run.yaml with every resolved flag, and run.json with the command and the machine.

    What an earlier run left is removed only now, when nothing can be refused any more.
    """
    folder = run.output_dir
    if overwrite or not (holds_model(folder) or retention.all_of(folder)):
        remove(folder)
    _replace(folder / "run.yaml", yaml.safe_dump(run.flags, allow_unicode=True, sort_keys=True))
    facts = {
        "status": "unfinished",
        "recipe": run.recipe.resolve().parent.name,
        "command": shlex.join(masked(shlex.split(run.command))),
        "configurations": _configurations(shlex.split(run.command)),
        "inputs": run.inputs,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
        "world_size": step_sizes.number_of_processes(),
        "seed": run.flags.get("seed"),
        "data_seed": run.flags.get("data_seed", run.flags.get("seed")),
    }
    write_json(folder / "run.json", facts)


def unlock() -> None:
    """Lets other processes into the folders of this process's runs, which are over."""
    while _locks:
        _locks.pop().close()


def scores(folder: Path) -> dict[str, float]:
    """Returns the metrics of the run in this folder; none where none were written."""
    path = folder / "all_results.json"
    if not path.exists():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def earlier(output_dir: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns the flags (run.yaml) and the facts (run.json) of the run that began in this folder.

    Returns None where there was none, or where its record cannot be read.
    """
    try:
        flags = yaml.load((output_dir / "run.yaml").read_text(encoding="utf-8"), PlainLoader)
        facts = json.loads((output_dir / "run.json").read_text(encoding="utf-8"))
        is_valid = _is_valid(flags, facts)
    except UNREADABLE:
        return None
    if not is_valid:
        return None
    return flags, facts


def _is_valid(flags: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether the values that runs are compared by have their types.

    Raises one of UNREADABLE where a value is missing.
    """
    numbers = [
        flags["per_device_train_batch_size"],
        flags["gradient_accumulation_steps"],
        facts["world_size"],
    ]
    for name in LENGTH:
        numbers.append(flags.get(name, 1))
    digests = [one["sha256"] for one in facts.get("inputs", {}).values()]
    data = [facts.get("data_sha256", {}), facts.get("data", {})]
    return _all_are((int, float), numbers) and _all_are(str, digests) and _all_are(dict, data)


def _all_are(kind: type | tuple[type, ...], values: list[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def is_ours(folder: Path) -> bool:
    """Whether a run of these recipes left what the folder holds."""
    return bool(earlier(folder)) or any(map(retention.fingerprint, retention.all_of(folder)))


def holds_model(output_dir: Path) -> bool:
    """Whether a training has left its weights in the folder."""
    return any((output_dir / name).exists() for name in ("config.json", *WEIGHTS))


def remove(output_dir: Path) -> None:
    """Deletes what a run left in the folder, and nothing else."""
    if not is_ours(output_dir):
        return
    for name in (*RESULTS, *MODEL, *TOKENIZER, *OTHERS):
        (output_dir / name).unlink(missing_ok=True)
    folders: list[Path] = []
    for pattern in ("checkpoint-*", f"{retention.STAGING}*", f"{atomic_folder.OUTGOING}*"):
        folders += output_dir.glob(pattern)
    folders += [output_dir / "plots", output_dir / ADAPTED]
    for folder in folders:
        atomic_folder.delete(folder)


def hardware() -> str:
    """Returns the device that trains, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def _configurations(words: list[str]) -> dict[str, str]:
    """Returns the files of flags that a command reads, with their hashes."""
    paths = [Path(words[1]).with_name("config.yaml")]
    for word, after in itertools.pairwise([*words, ""]):
        if word == "--config":
            paths.append(Path(after))
        elif word.startswith("--config="):
            paths.append(Path(word.partition("=")[2]))
    return {str(path): content_hash(path) for path in paths if path.is_file()}


def _git_commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file; a reader finds all of it, or the earlier one."""
    _replace(path, json.dumps(content, indent=2, ensure_ascii=False))


def _replace(path: Path, text: str) -> None:
    """Writes a new file beside the old one and renames it.

    Names of files that the locale cannot decode stay as they are.
    """
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text, encoding="utf-8", errors="surrogateescape")
    aside.replace(path)
