"""A run in its folder: what an earlier one left there, whether this one may begin, and run.yaml and run.json, which are
written when it does."""

import errno
import itertools
import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
import yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from recipes.common import checkpoints, manifests, run_identity
from recipes.common.args import DATA_FILES, ROOT
from recipes.common.configuration import PlainLoader
from recipes.common.errors import Refusal, note, visible_lines
from recipes.common.files import content_hash
from recipes.common.folders import ADAPTED
from recipes.common.run_identity import LENGTH, PREDICTED, Run
from recipes.common.secret import masked

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "peft", "evaluate", "scikit-learn")
RESULTS = ("all_results.json", "train_results.json", "eval_results.json", "predict_results.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
MODEL = ("config.json", "generation_config.json", "adapter_config.json", *WEIGHTS)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json")
TOKENIZER += ("merges.txt", "source.spm", "target.spm", "sentencepiece.bpe.model", "spiece.model")
OTHERS = ("README.md", "run.yaml", "run.json", "predictions.jsonl", "trainer_state.json", "not_finite.json")
LOCK = ".lock"
OVERWRITE = "to start over: --overwrite_output_dir"
_locks: list[IO] = []


def claim(run: Run, training_arguments: Any, arguments: Any) -> bool:
    """Whether this very run is complete; otherwise the folder is locked for it, and nothing in it is changed yet.

    Refuses a folder whose checkpoints or model are another run's: one in which nothing was trained stands in nobody's
    way.
    """
    folder, named = run.output_dir, named_checkpoint(training_arguments)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file", "--output_dir", "name a folder")
    if arguments.overwrite_output_dir:
        _check_overwriting(folder, named)
    elif _is_complete(run, named, arguments.allow_changed or ()):
        return True
    lock(folder)
    return False


def named_checkpoint(training_arguments: Any) -> Path | None:
    """The checkpoint that --resume_from_checkpoint names."""
    name = training_arguments.resume_from_checkpoint or "true"
    return None if name.lower() in ("true", "false") else Path(name)


def _check_overwriting(folder: Path, named: Path | None) -> None:
    if named and named.resolve().is_relative_to(folder.resolve()):
        flags = "--overwrite_output_dir, --resume_from_checkpoint"
        raise Refusal(f"{named} would be removed", flags, "leave out one of the two flags")
    if holds_model(folder) and not _is_ours(folder):
        raise _foreign(folder)


def _foreign(folder: Path) -> Refusal:
    fix = "choose another --output_dir, or move that model away"
    return Refusal(f"{folder} holds a model that is not from this recipe", "--output_dir", fix)


def _is_ours(folder: Path) -> bool:
    """Whether a run of these recipes left what the folder holds."""
    return bool(earlier(folder)) or any(map(checkpoints.fingerprint, checkpoints.all_of(folder)))


def _is_complete(run: Run, named: Path | None, allowed: Collection[str]) -> bool:
    found, folder = earlier(run.output_dir), run.output_dir
    flags, facts = found or ({}, {})
    own = max(filter(checkpoints.fingerprint, checkpoints.all_of(folder)), key=checkpoints.step, default=None)
    if facts.get("status") == "complete":
        changed, other = _changes(run, flags, facts)
        if not changed and not other:
            print(visible_lines(str(facts.get("table", ""))), "\n")
            note(f"already complete: {folder / 'README.md'}; {OVERWRITE}")
            return True
        if (own or holds_model(folder)) and not _goes_on(run, flags, changed, other, own, named, allowed):
            raise _refusal_of_complete(run, flags, changed, other, own)
        return False
    if holds_model(folder) and not own:
        if not found:
            raise _foreign(folder)
        if changed := _changes(run, flags, facts)[0]:
            what = f"{folder} holds the model of a run with other arguments: "
            what += run_identity.shown(changed, flags, run.flags)
            raise Refusal(what, "--output_dir", f"to keep both: another --output_dir; {OVERWRITE}")
    for checkpoint in {own, named} - {None}:
        _check_checkpoint(checkpoint, run, named, allowed)
    return False


def _changes(run: Run, flags: dict[str, Any], facts: dict[str, Any]) -> tuple[list[str], str]:
    """What differs from a recorded run: flags and what was read, and the file of the data."""
    inputs = {name: one["sha256"] for name, one in facts.get("inputs", {}).items()}
    rows = run_identity.rows_a_step(flags, facts["world_size"])
    changed = run_identity.changed_flags(flags, run, rows, inputs) + run_identity.changed_inputs(inputs, run)
    return changed, run_identity.other_data(facts, flags, run)


def _goes_on(
    run: Run,
    flags: dict[str, Any],
    changed: list[str],
    other: str,
    checkpoint: Path | None,
    named: Path | None,
    allowed: Collection[str],
) -> bool:
    """Whether a complete run goes on from its last checkpoint: it becomes longer, or predicts, and is else the same."""
    length = {*changed} & {*LENGTH}
    others = {*changed} - length - PREDICTED
    if other or (checkpoint is None and not named) or (checkpoint and checkpoints.no_states(checkpoint)):
        return False
    if not length:
        return not others
    exact = run_identity.length_may_change(run.flags) or length <= {*allowed}
    return (exact or bool(named)) and run_identity.is_longer(run, flags) and others <= {*allowed}


def _refusal_of_complete(
    run: Run, flags: dict[str, Any], changed: list[str], other: str, checkpoint: Path | None
) -> Refusal:
    """What a complete run would lose, and the way on from it: its last checkpoint, or its weights."""
    folder, keep = run.output_dir, "to keep both: another --output_dir"
    what = f"{folder} holds a complete run with other arguments: {run_identity.shown(changed, flags, run.flags)}"
    if not changed:
        named = [name for name in DATA_FILES if flags.get(name) != run.flags.get(name)]
        other = run_identity.shown(named, flags, run.flags) or f"{other} has changed since"
        what = f"{folder} holds a complete run on other data: {other}"
    ways = [keep, f"to train its model further: --model_name_or_path {folder} and another --output_dir"]
    longer = {*changed} <= {*LENGTH} and run_identity.is_longer(run, flags)
    if changed and longer and not other and checkpoint and not checkpoints.no_states(checkpoint):
        ways = [f"to continue, at the longer schedule's learning rate: --resume_from_checkpoint {checkpoint}", keep]
    return Refusal(what, "--output_dir", "; ".join([*ways, OVERWRITE]))


def _check_checkpoint(checkpoint: Path, run: Run, named: Path | None, allowed: Collection[str]) -> None:
    """Refuses flags that are not a checkpoint's before any data is read; a damaged one is looked at later."""
    known = checkpoints.fingerprint(checkpoint)
    changed = known and _changed_since(known, run, allowed, by_name=bool(named))[1]
    if changed:
        raise _refusal_of_unfinished(checkpoint, known, run, changed)


def _changed_since(
    known: dict[str, Any], run: Run, allowed: Collection[str], by_name: bool
) -> tuple[list[str], list[str]]:
    """The flags, and what else was read, that differ from a checkpoint's: all, and those that were not allowed to.

    Who names the checkpoint may go on from it with more steps; others only where the steps so far were the same.
    """
    flags, inputs = known["flags"], known["inputs"]
    changed = run_identity.changed_flags(flags, run, known["rows_a_step"], inputs)
    changed += run_identity.changed_inputs(inputs, run)
    free = {*allowed} | PREDICTED
    if run_identity.length_may_change(run.flags) or (by_name and run_identity.is_longer(run, flags)):
        free |= {*LENGTH}
    return changed, [name for name in changed if name not in free]


def _refusal_of_unfinished(checkpoint: Path, known: dict[str, Any], run: Run, changed: list[str]) -> Refusal:
    what = run_identity.shown(changed, known["flags"], run.flags)
    fix = f"to continue all the same: --allow_changed {' '.join(changed)}; to keep both: another --output_dir"
    return Refusal(f"{checkpoint} belongs to a run with other arguments: {what}", "--output_dir", f"{fix}; {OVERWRITE}")


def checkpoint(trainer: Any, arguments: Any) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to go on from, the one that is named, or the newest intact one, and the flags that have changed
    since, as they were; None to begin. Only the main process looks."""
    named, flag = named_checkpoint(trainer.args), str(trainer.args.resume_from_checkpoint).lower()
    if not trainer.is_world_process_zero() or flag == "false" or arguments.overwrite_output_dir:
        return None, {}
    if named:
        _check_whole(named)
    chosen = named or checkpoints.newest(Path(trainer.args.output_dir))
    if chosen is None:
        return None, {}
    changed = _check_belongs(chosen, trainer.fingerprint, arguments.run, arguments.allow_changed or (), bool(named))
    now = f", with {run_identity.shown(changed, changed, arguments.run.flags)}" if changed else ""
    note(f"resuming from {chosen}{now}")
    return chosen, changed


def _check_whole(named: Path) -> None:
    """Refuses what is no checkpoint of these recipes: a run's whole folder, one of another Trainer, a damaged one."""
    within = max(checkpoints.all_of(named), key=checkpoints.step, default=None)
    fix = "name an intact checkpoint-N folder, or leave the flag out: the newest intact one is found"
    damage = manifests.damage(named) or checkpoints.no_states(named)
    if damage and within:
        fix = f"name the checkpoint: --resume_from_checkpoint {within}"
    elif damage and holds_model(named):
        fix = f"begin from its weights: --model_name_or_path {named}; or {fix}"
    elif not damage and not checkpoints.is_named(named):
        damage, fix = "its name does not say after which step it was written", "call it checkpoint-N again, N its step"
    if damage:
        raise Refusal(f"{named} is not a whole checkpoint: {damage}", "--resume_from_checkpoint", fix)


def _check_belongs(
    folder: Path, fingerprint: dict[str, Any], run: Run, allowed: Collection[str], by_name: bool
) -> dict[str, Any]:
    """The flags that have changed since the checkpoint was written, as they were; refuses a checkpoint of another run:
    other flags, data, tokenizer, model, library versions or step size."""
    known = checkpoints.fingerprint(folder)
    if not known:
        fix = f"--resume_from_checkpoint false begins anew; {OVERWRITE}"
        raise Refusal("the checkpoint is of an earlier version of these recipes", str(folder), fix)
    changed, refused = _changed_since(known, run, allowed, by_name)
    if refused:
        raise _refusal_of_unfinished(folder, known, run, refused)
    allowed = {*allowed} | ({"rows_a_step"} if run_identity.SPLIT & {*allowed} else set())
    compared = fingerprint.keys() - {"flags", "inputs", *allowed}
    differing = sorted(name for name in compared if known.get(name) != fingerprint[name])
    if differing:
        what = "; ".join(_difference(name, known.get(name), fingerprint[name]) for name in differing)
        fix = f"to continue all the same: --allow_changed {' '.join(differing)}; {OVERWRITE}"
        raise Refusal(f"the checkpoint belongs to a run that differs: {what}", str(folder), fix)
    return {name: known["flags"].get(name) for name in changed}


def _difference(name: str, was: Any, now: Any) -> str:
    if name == "versions" and isinstance(was, dict):
        return "; ".join(f"{key} {was.get(key)} -> {now[key]}" for key in now if was.get(key) != now[key])
    return f"{name} {was} -> {now}" if isinstance(now, (int, float)) else f"another {name}"


def lock(folder: Path) -> None:
    """Keeps other processes out of the folder as long as this one lives; its children do not inherit the lock."""
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
    """The run begins: run.yaml with every resolved flag, run.json with the command and the machine; what an earlier one
    left goes only now, when nothing can be refused any more."""
    folder = run.output_dir
    if overwrite or not (holds_model(folder) or checkpoints.all_of(folder)):
        remove(folder)
    _replace(folder / "run.yaml", yaml.safe_dump(run.flags, allow_unicode=True, sort_keys=True))
    facts = {
        "status": "unfinished",
        "command": shlex.join(masked(shlex.split(run.command))),
        "configurations": _configurations(shlex.split(run.command)),
        "inputs": run.inputs,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "seed": run.flags.get("seed"),
        "data_seed": run.flags.get("data_seed", run.flags.get("seed")),
    }
    write_json(folder / "run.json", facts)


def unlock() -> None:
    """Lets other processes into the folders of this one's runs, which are over."""
    while _locks:
        _locks.pop().close()


def scores(folder: Path) -> dict[str, float]:
    """The metrics of the run in this folder; none where nobody wrote them."""
    path = folder / "all_results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def earlier(output_dir: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The flags (run.yaml) and facts (run.json) of the run that began in this folder; None where there was none."""
    try:
        flags = yaml.load((output_dir / "run.yaml").read_text(encoding="utf-8"), PlainLoader)
        facts = json.loads((output_dir / "run.json").read_text(encoding="utf-8"))
        numbers = [flags["per_device_train_batch_size"], flags["gradient_accumulation_steps"], facts["world_size"]]
        numbers += [flags.get(name, 1) // 1 for name in LENGTH]
        inputs = [one["sha256"] for one in facts.get("inputs", {}).values()]
        read = [facts.get("data_sha256", {}), facts.get("data", {})]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    whole = all(isinstance(number, (int, float)) for number in numbers) and all(isinstance(one, dict) for one in read)
    return (flags, facts) if whole and all(isinstance(digest, str) for digest in inputs) else None


def holds_model(output_dir: Path) -> bool:
    """Whether a training has left its weights in the folder."""
    return any((output_dir / name).exists() for name in ("config.json", *WEIGHTS))


def remove(output_dir: Path) -> None:
    """Deletes what a run left in the folder, and nothing else."""
    if not _is_ours(output_dir):
        return
    for name in (*RESULTS, *MODEL, *TOKENIZER, *OTHERS):
        (output_dir / name).unlink(missing_ok=True)
    folders = (path for pattern in ("checkpoint-*", ".saving-*", ".removing-*") for path in output_dir.glob(pattern))
    for folder in [*folders, output_dir / "plots", output_dir / ADAPTED]:
        manifests.delete(folder)


def hardware() -> str:
    """The device that trains, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def _configurations(words: list[str]) -> dict[str, str]:
    """The files of flags that a command reads, with their hashes."""
    named = [after for word, after in itertools.pairwise(words) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    paths = [Path(words[1]).with_name("config.yaml"), *map(Path, named)]
    return {str(path): content_hash(path) for path in paths if path.is_file()}


def _git_commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file of JSON, of which a reader never finds half."""
    _replace(path, json.dumps(content, indent=2, ensure_ascii=False))


def _replace(path: Path, text: str) -> None:
    """Written aside and renamed; names of files that the locale cannot decode stay as they are."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text, encoding="utf-8", errors="surrogateescape")
    aside.replace(path)
