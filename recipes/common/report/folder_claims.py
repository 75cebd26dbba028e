"""Whether a run may begin in its folder, and where: complete, unfinished, another one's, or nobody's."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.config.flags import DATA_FILES
from recipes.common.report import run_identity, run_record
from recipes.common.report.run_identity import LENGTH, PREDICTED, Run
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, visible_lines

KEEP, OVERWRITE = "to keep both: another --output_dir", "to start over: --overwrite_output_dir"


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
    run_record.lock(folder)
    return False


def named_checkpoint(training_arguments: Any) -> Path | None:
    """The checkpoint that --resume_from_checkpoint names."""
    name = training_arguments.resume_from_checkpoint or "true"
    return None if name.lower() in ("true", "false") else Path(name)


def _check_overwriting(folder: Path, named: Path | None) -> None:
    if named and named.resolve().is_relative_to(folder.resolve()):
        flags = "--overwrite_output_dir, --resume_from_checkpoint"
        raise Refusal(f"{named} would be removed", flags, "leave out one of the two flags")
    if run_record.holds_model(folder) and not run_record.is_ours(folder):
        raise _foreign(folder)


def _foreign(folder: Path) -> Refusal:
    fix = "choose another --output_dir, or move that model away"
    return Refusal(f"{folder} holds a model that is not from this recipe", "--output_dir", fix)


def _is_complete(run: Run, named: Path | None, allowed: Collection[str]) -> bool:
    folder, recorded = run.output_dir, run_record.earlier(run.output_dir)
    own = max(
        filter(retention.fingerprint, retention.all_of(folder)), key=retention.step, default=None
    )
    holds_model = run_record.holds_model(folder)
    if holds_model and not own and not recorded:
        raise _foreign(folder)
    found = _compared(run, *recorded, own) if recorded else None
    if found and found.is_complete:
        if found.is_same:
            print(visible_lines(found.table), "\n")
            note(f"already complete: {folder / 'README.md'}; {OVERWRITE}")
            return True
        if (own or holds_model) and not _goes_on(run, found, named, allowed):
            raise _refusal_of_complete(run, found)
        return False
    if found and found.changed and holds_model and not own:
        what = f"{folder} holds the model of a run with other arguments: {found.shown(run)}"
        raise Refusal(what, "--output_dir", f"{KEEP}; {OVERWRITE}")
    for checkpoint in {own, named} - {None}:
        _check_checkpoint(checkpoint, run, named, allowed)
    return False


def _compared(
    run: Run, flags: dict[str, Any], facts: dict[str, Any], checkpoint: Path | None
) -> "Earlier":
    inputs = {name: one["sha256"] for name, one in facts.get("inputs", {}).items()}
    rows = run_identity.rows_a_step(flags, facts["world_size"])
    changed = run_identity.changed_flags(flags, run, rows, inputs) + run_identity.changed_inputs(
        inputs, run
    )
    is_complete, table = facts.get("status") == "complete", str(facts.get("table", ""))
    return Earlier(
        flags, is_complete, table, changed, run_identity.other_data(facts, flags, run), checkpoint
    )


def _goes_on(run: Run, found: "Earlier", named: Path | None, allowed: Collection[str]) -> bool:
    """Whether a complete run goes on from its last checkpoint: it becomes longer, or predicts, and is else the same."""
    length = {*found.changed} & {*LENGTH}
    others = {*found.changed} - length - PREDICTED
    if found.other or not (named or found.has_states):
        return False
    if not length:
        return not others
    exact = run_identity.length_may_change(run.flags) or length <= {*allowed}
    return (
        (exact or bool(named)) and run_identity.is_longer(run, found.flags) and others <= {*allowed}
    )


def _refusal_of_complete(run: Run, found: "Earlier") -> Refusal:
    """What a complete run would lose, and the way on from it: its last checkpoint, or its weights."""
    folder = run.output_dir
    what = f"{folder} holds a complete run with other arguments: {found.shown(run)}"
    if not found.changed:
        named = [name for name in DATA_FILES if found.flags.get(name) != run.flags.get(name)]
        other = (
            run_identity.shown(named, found.flags, run.flags) or f"{found.other} has changed since"
        )
        what = f"{folder} holds a complete run on other data: {other}"
    ways = [
        KEEP,
        f"to train its model further: --model_name_or_path {folder} and another --output_dir",
    ]
    longer = {*found.changed} <= {*LENGTH} and run_identity.is_longer(run, found.flags)
    if found.changed and longer and not found.other and found.has_states:
        way = f"to continue, at the longer schedule's learning rate: --resume_from_checkpoint {found.checkpoint}"
        ways = [way, KEEP]
    return Refusal(what, "--output_dir", "; ".join([*ways, OVERWRITE]))


def _check_checkpoint(
    checkpoint: Path, run: Run, named: Path | None, allowed: Collection[str]
) -> None:
    """Refuses flags that are not a checkpoint's before any data is read; a damaged one is looked at later."""
    known = retention.fingerprint(checkpoint)
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
    if run_identity.length_may_change(run.flags) or (
        by_name and run_identity.is_longer(run, flags)
    ):
        free |= {*LENGTH}
    return changed, [name for name in changed if name not in free]


def _refusal_of_unfinished(
    checkpoint: Path, known: dict[str, Any], run: Run, changed: list[str]
) -> Refusal:
    what = run_identity.shown(changed, known["flags"], run.flags)
    fix = f"to continue all the same: --allow_changed {' '.join(changed)}; {KEEP}"
    return Refusal(
        f"{checkpoint} belongs to a run with other arguments: {what}",
        "--output_dir",
        f"{fix}; {OVERWRITE}",
    )


def checkpoint(trainer: Any, arguments: Any) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to go on from, the one that is named, or the newest intact one, and the flags that have changed
    since, as they were; None to begin. Only the main process looks."""
    named, flag = named_checkpoint(trainer.args), str(trainer.args.resume_from_checkpoint).lower()
    if not trainer.is_world_process_zero() or flag == "false" or arguments.overwrite_output_dir:
        return None, {}
    if named:
        _check_whole(named)
    chosen = named or retention.newest(Path(trainer.args.output_dir))
    if chosen is None:
        return None, {}
    changed = _check_belongs(
        chosen, trainer.fingerprint, arguments.run, arguments.allow_changed or (), bool(named)
    )
    now = f", with {run_identity.shown(changed, changed, arguments.run.flags)}" if changed else ""
    note(f"resuming from {chosen}{now}")
    return chosen, changed


def _check_whole(named: Path) -> None:
    """Refuses what is no checkpoint of these recipes: a run's whole folder, one of another Trainer, a damaged one."""
    within = max(retention.all_of(named), key=retention.step, default=None)
    fix = (
        "name an intact checkpoint-N folder, or leave the flag out: the newest intact one is found"
    )
    damage = atomic_folder.damage(named) or retention.no_states(named)
    if damage and within:
        fix = f"name the checkpoint: --resume_from_checkpoint {within}"
    elif damage and run_record.holds_model(named):
        fix = f"begin from its weights: --model_name_or_path {named}; or {fix}"
    elif not damage and not retention.is_named(named):
        damage, fix = (
            "its name does not say after which step it was written",
            "call it checkpoint-N again, N its step",
        )
    if damage:
        raise Refusal(
            f"{named} is not a whole checkpoint: {damage}", "--resume_from_checkpoint", fix
        )


def _check_belongs(
    folder: Path, fingerprint: dict[str, Any], run: Run, allowed: Collection[str], by_name: bool
) -> dict[str, Any]:
    """The flags that have changed since the checkpoint was written, as they were; refuses a checkpoint of another run:
    other flags, data, tokenizer, model, library versions or step size."""
    known = retention.fingerprint(folder)
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
        what = "; ".join(
            _difference(name, known.get(name), fingerprint[name]) for name in differing
        )
        fix = f"to continue all the same: --allow_changed {' '.join(differing)}; {OVERWRITE}"
        raise Refusal(f"the checkpoint belongs to a run that differs: {what}", str(folder), fix)
    return {name: known["flags"].get(name) for name in changed}


def _difference(name: str, was: Any, now: Any) -> str:
    if name == "versions" and isinstance(was, dict):
        return "; ".join(
            f"{key} {was.get(key)} -> {now[key]}" for key in now if was.get(key) != now[key]
        )
    return f"{name} {was} -> {now}" if isinstance(now, (int, float)) else f"another {name}"


@dataclass(frozen=True)
class Earlier:
    """A recorded run beside the one that was asked for."""

    flags: dict[str, Any]
    is_complete: bool
    table: str  # of its scores
    changed: list[str]  # the flags, and what was read, that differ
    other: str  # the first file of other data; "" where there is none
    checkpoint: Path | None  # its last one

    @property
    def is_same(self) -> bool:
        """Whether it is the run that was asked for."""
        return not self.changed and not self.other

    @property
    def has_states(self) -> bool:
        """Whether its last checkpoint holds what a training goes on from."""
        return self.checkpoint is not None and not retention.no_states(self.checkpoint)

    def shown(self, run: Run) -> str:
        """What differs, in words."""
        return run_identity.shown(self.changed, self.flags, run.flags)
