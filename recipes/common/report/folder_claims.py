"""Decides whether a run may use its output folder, and from which checkpoint it continues.

The folder may hold the same run (complete or unfinished), another run, or files that no run of
these recipes wrote.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.config.flags import DATA_FILES
from recipes.common.report import run_identity, run_record
from recipes.common.report.run_identity import LENGTH, PREDICTED, Run
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, visible_lines

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from recipes.common.config.flags import Arguments
    from recipes.common.train.trainer import Trainer

KEEP, OVERWRITE = "to keep both: another --output_dir", "to start over: --overwrite_output_dir"


class Requested(Protocol):
    """The flags of a recipe, to which runner.start has added the requested run."""

    run: Run
    allow_changed: list[str] | None
    overwrite_output_dir: bool


@dataclass(frozen=True)
class Earlier:
    """A recorded run, and how the requested one differs from it."""

    flags: dict[str, Any]
    is_complete: bool
    table: str  # of its scores
    changed: list[str]  # the flags that differ, and what else was read and differs
    other: str  # the first file of other data; "" where there is none
    checkpoint: Path | None  # its last one

    @property
    def is_same(self) -> bool:
        """Whether it is the requested run."""
        return not self.changed and not self.other

    @property
    def has_states(self) -> bool:
        """Whether its last checkpoint holds what a training needs to continue."""
        return self.checkpoint is not None and not retention.no_states(self.checkpoint)

    def shown(self, run: Run) -> str:
        """Returns what differs, in words."""
        return run_identity.shown(self.changed, self.flags, run.flags)


def claim(run: Run, training_arguments: "TrainingArguments", arguments: "Arguments") -> bool:
    """Returns whether this very run is complete. If it is not, locks the folder for the run.

    Refuses a folder that holds checkpoints or a model of another run. A run that has trained
    nothing does not stand in the way. Nothing in the folder is changed yet.
    """
    folder = run.output_dir
    named = named_checkpoint(training_arguments)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file", "--output_dir", "name a folder")
    if arguments.overwrite_output_dir:
        _check_overwriting(folder, named)
    elif _is_complete(run, named, arguments.allow_changed or ()):
        return True
    run_record.lock(folder)
    return False


def named_checkpoint(training_arguments: "TrainingArguments") -> Path | None:
    """Returns the checkpoint that --resume_from_checkpoint names."""
    name = training_arguments.resume_from_checkpoint or "true"
    if name.lower() in ("true", "false"):
        return None
    return Path(name)


def _check_overwriting(folder: Path, named: Path | None) -> None:
    if named and named.resolve().is_relative_to(folder.resolve()):
        flags = "--overwrite_output_dir, --resume_from_checkpoint"
        raise Refusal(f"{named} would be removed", flags, "leave out one of the two flags")
    if run_record.holds_model(folder) and not run_record.is_ours(folder):
        raise _refusal_of_foreign(folder)


def _refusal_of_foreign(folder: Path) -> Refusal:
    fix = "choose another --output_dir, or move that model away"
    return Refusal(f"{folder} holds a model that is not from this recipe", "--output_dir", fix)


def _is_complete(run: Run, named: Path | None, allowed: Collection[str]) -> bool:
    """Whether the folder holds this very run and it is complete; refuses another run's folder."""
    folder = run.output_dir
    recorded = run_record.earlier(folder)
    newest = _newest_checkpoint(folder)
    holds_model = run_record.holds_model(folder)
    if holds_model and not newest and not recorded:
        raise _refusal_of_foreign(folder)
    found = _compared(run, *recorded, newest) if recorded else None
    if found and found.is_complete:
        if found.is_same:
            print(visible_lines(found.table), "\n")
            note(f"already complete: {folder / 'README.md'}; {OVERWRITE}")
        elif (newest or holds_model) and not _continues(run, found, named, allowed):
            raise _refusal_of_complete(run, found)
        return found.is_same
    if found and found.changed and holds_model and not newest:
        what = f"{folder} holds the model of a run with other arguments: {found.shown(run)}"
        raise Refusal(what, "--output_dir", f"{KEEP}; {OVERWRITE}")
    for checkpoint in (newest, named):
        if checkpoint:
            _check_checkpoint(checkpoint, run, named, allowed)
    return False


def _newest_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint of the highest step among those that say which run they belong to."""
    known = filter(retention.fingerprint, retention.all_of(folder))
    return max(known, key=retention.step, default=None)


def _compared(
    run: Run, flags: dict[str, Any], facts: dict[str, Any], checkpoint: Path | None
) -> Earlier:
    inputs = {name: one["sha256"] for name, one in facts.get("inputs", {}).items()}
    rows = run_identity.rows_per_step(flags, facts["world_size"])
    changed = run_identity.changed_flags(flags, run, rows, inputs)
    changed += run_identity.changed_inputs(inputs, run)
    return Earlier(
        flags=flags,
        is_complete=facts.get("status") == "complete",
        table=str(facts.get("table", "")),
        changed=changed,
        other=run_identity.other_data(facts, flags, run),
        checkpoint=checkpoint,
    )


def _continues(run: Run, found: Earlier, named: Path | None, allowed: Collection[str]) -> bool:
    """Whether the run continues from the last checkpoint of a complete one.

    It does where it is longer, or predicts, and nothing else differs.
    """
    length = {*found.changed} & {*LENGTH}
    others = {*found.changed} - length - PREDICTED
    if found.other or not (named or found.has_states):
        return False
    if not length:
        return not others
    may_change = run_identity.length_may_change(run.flags) or length <= {*allowed}
    if not may_change and not named:
        return False
    return run_identity.is_longer(run, found.flags) and others <= {*allowed}


def _refusal_of_complete(run: Run, found: Earlier) -> Refusal:
    """Returns the refusal that says what differs from a complete run.

    Its fix says how to use the complete run's last checkpoint, or its weights.
    """
    folder = run.output_dir
    if found.changed:
        what = f"{folder} holds a complete run with other arguments: {found.shown(run)}"
    else:
        what = f"{folder} holds a complete run on other data: {_shown_data(run, found)}"
    longer = {*found.changed} <= {*LENGTH} and run_identity.is_longer(run, found.flags)
    if found.changed and longer and not found.other and found.has_states:
        flag = f"--resume_from_checkpoint {found.checkpoint}"
        ways = [f"to continue, at the longer schedule's learning rate: {flag}", KEEP]
    else:
        flags = f"--model_name_or_path {folder} and another --output_dir"
        ways = [KEEP, f"to train its model further: {flags}"]
    return Refusal(what, "--output_dir", "; ".join([*ways, OVERWRITE]))


def _shown_data(run: Run, found: Earlier) -> str:
    """Returns the flags that name other data, or the file whose content is another one."""
    flags = [name for name in DATA_FILES if found.flags.get(name) != run.flags.get(name)]
    if flags:
        return run_identity.shown(flags, found.flags, run.flags)
    return f"{found.other} has changed since"


def _check_checkpoint(
    checkpoint: Path, run: Run, named: Path | None, allowed: Collection[str]
) -> None:
    """Refuses flags that are not the checkpoint's, before any data is read.

    A damaged checkpoint is refused later.
    """
    known = retention.fingerprint(checkpoint)
    if not known:
        return
    _, refused = _changed_since(known, run, allowed, by_name=bool(named))
    if refused:
        raise _refusal_of_unfinished(checkpoint, known, run, refused)


def _changed_since(
    known: dict[str, Any], run: Run, allowed: Collection[str], by_name: bool
) -> tuple[list[str], list[str]]:
    """Returns the names that differ from a checkpoint's, and those of them that are refused.

    They are flags, and what else was read. A run with more steps continues from a checkpoint that
    the user names. Without a name it continues only where the steps so far would be the same.
    """
    flags, inputs = known["flags"], known["inputs"]
    changed = run_identity.changed_flags(flags, run, known["rows_per_step"], inputs)
    changed += run_identity.changed_inputs(inputs, run)
    free = {*allowed} | PREDICTED
    named_longer = by_name and run_identity.is_longer(run, flags)
    if named_longer or run_identity.length_may_change(run.flags):
        free |= {*LENGTH}
    return changed, [name for name in changed if name not in free]


def _refusal_of_unfinished(
    checkpoint: Path, known: dict[str, Any], run: Run, changed: list[str]
) -> Refusal:
    differences = run_identity.shown(changed, known["flags"], run.flags)
    what = f"{checkpoint} belongs to a run with other arguments: {differences}"
    fix = f"to continue anyway: --allow_changed {' '.join(changed)}; {KEEP}; {OVERWRITE}"
    return Refusal(what, "--output_dir", fix)


def checkpoint(
    trainer: "Trainer", arguments: Requested, fingerprint: dict[str, Any]
) -> tuple[Path | None, dict[str, Any]]:
    """Returns the checkpoint to continue from, and the earlier values of flags that have changed.

    `fingerprint` is that of the requested run. The checkpoint is the one that
    --resume_from_checkpoint names, otherwise the newest intact one, and None where the run begins.
    Only the main process looks for it.
    """
    named = named_checkpoint(trainer.args)
    flag = str(trainer.args.resume_from_checkpoint).lower()
    if not trainer.is_world_process_zero() or flag == "false" or arguments.overwrite_output_dir:
        return None, {}
    if named:
        _check_whole(named)
    chosen = named or retention.newest(run_record.folder_of(trainer.args))
    if chosen is None:
        return None, {}
    run, allowed = arguments.run, arguments.allow_changed or ()
    changed = _check_belongs(chosen, fingerprint, run, allowed, by_name=bool(named))
    message = f"resuming from {chosen}"
    if changed:
        message += f", with {run_identity.shown(changed, changed, run.flags)}"
    note(message)
    return chosen, changed


def _check_whole(named: Path) -> None:
    """Refuses a folder that is no checkpoint of these recipes.

    It may be the folder of a whole run, a checkpoint of another Trainer, or a damaged one.
    """
    damage = atomic_folder.damage(named) or retention.no_states(named)
    if damage:
        fix = _instead_of(named)
    elif not retention.is_named(named):
        damage = "its name does not say after which step it was written"
        fix = "rename it to checkpoint-N, where N is that step"
    else:
        return
    what = f"{named} is not a whole checkpoint: {damage}"
    raise Refusal(what, "--resume_from_checkpoint", fix)


def _instead_of(named: Path) -> str:
    """Returns what the user can name instead of a folder that is no whole checkpoint."""
    within = max(retention.all_of(named), key=retention.step, default=None)
    if within:
        return f"name the checkpoint: --resume_from_checkpoint {within}"
    fix = "name an intact checkpoint-N, or leave the flag out: the newest intact one is found"
    if run_record.holds_model(named):
        return f"begin from its weights: --model_name_or_path {named}; or {fix}"
    return fix


def _check_belongs(
    folder: Path, fingerprint: dict[str, Any], run: Run, allowed: Collection[str], by_name: bool
) -> dict[str, Any]:
    """Returns the earlier values of the flags that have changed since the checkpoint was written.

    Refuses a checkpoint of another run: other flags, data, tokenizer, model, library versions or
    rows per step.
    """
    known = retention.fingerprint(folder)
    if not known:
        what = "the checkpoint is of an earlier version of these recipes"
        fix = "to start over: --resume_from_checkpoint false, or --overwrite_output_dir"
        raise Refusal(what, str(folder), fix)
    changed, refused = _changed_since(known, run, allowed, by_name)
    if refused:
        raise _refusal_of_unfinished(folder, known, run, refused)
    ignored = {"flags", "inputs", *allowed}
    if run_identity.SPLIT & ignored:
        ignored.add("rows_per_step")
    differing, differences = [], []
    for name in sorted(fingerprint.keys() - ignored):
        if known.get(name) != fingerprint[name]:
            differing.append(name)
            differences.append(_difference(name, known.get(name), fingerprint[name]))
    if differing:
        what = f"the checkpoint belongs to a run that differs: {'; '.join(differences)}"
        fix = f"to continue anyway: --allow_changed {' '.join(differing)}; {OVERWRITE}"
        raise Refusal(what, str(folder), fix)
    return {name: known["flags"].get(name) for name in changed}


def _difference(name: str, was: Any, now: Any) -> str:
    if name == "versions" and isinstance(was, dict):
        changed = [package for package in now if was.get(package) != now[package]]
        return "; ".join(f"{package} {was.get(package)} -> {now[package]}" for package in changed)
    if isinstance(now, (int, float)):
        return f"{name} {was} -> {now}"
    return f"another {name}"
