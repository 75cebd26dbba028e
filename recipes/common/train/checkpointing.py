"""Writes the checkpoints of one training, and continues from one.

Each checkpoint is written whole. It holds all that the run needs to continue.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from recipes.common.checkpoints import atomic_folder, progress, retention, tensor_files
from recipes.common.model.loading import parameters
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, warn
from recipes.common.tokens.positions import PositionedStream
from recipes.common.train import changed_settings, resuming

OPTIMIZER, SCHEDULER = "optimizer.safetensors", "scheduler.safetensors"
SCALER = "scaler.safetensors"
# Flags that change how an evaluation is scored: the best score so far cannot be compared with new
# ones.
JUDGED_BY = {
    "metric_for_best_model",
    "greater_is_better",
    "metric_name",
    "max_eval_samples",
    "validation_file",
}

Pending = dict[str, bool]  # the evaluation that a signal interrupted: whether to save after it


class Checkpoints:
    """Writes the checkpoints of a training, and restores what Trainer itself does not restore.

    `resumed` is the checkpoint that the training continues from. `fingerprint` says in each
    checkpoint which run it belongs to: its flags, data, tokenizer, model and versions. `changed`
    are the flags that differ from those of `resumed`, with their old values.
    """

    def __init__(
        self,
        trainer: Any,
        trial: Any = None,
        resumed: Path | None = None,
        fingerprint: Mapping[str, Any] | None = None,
        changed: Mapping[str, Any] | None = None,
    ):
        self.trainer, self.trial, self.resumed = trainer, trial, resumed
        self.fingerprint, self.changed = fingerprint, changed or {}
        self.began = time.time()
        self.saved_step = -1
        self.writing = False
        self.ended_early = False  # by early stopping, before the checkpoint was written
        # The best checkpoint, in the folder of the run that is continued.
        self.best_elsewhere: Path | None = None
        self._rest_is_missing = resumed is not None
        self._random_states = resumed  # the checkpoint whose random states are still to be restored

    # --- Writing ---

    @property
    def folder(self) -> Path:
        """Returns the folder in which the checkpoints stand."""
        return Path(upstream.run_folder(self.trainer, self.trial))

    @property
    def bytes_needed(self) -> int:
        """Estimates what a checkpoint takes on disk.

        That is the weights (with DeepSpeed and FSDP twice, once to continue from) and, for each
        weight that is trained, Adam's two numbers.
        """
        model, trainer = self.trainer.model, self.trainer
        weights = sum(value.numel() * value.element_size() for value in model.parameters())
        copies = 2 if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled else 1
        return copies * weights + 8 * parameters(model)[1]

    def write(self, only_model: bool, pending: Pending | None = None) -> None:
        """Writes a checkpoint aside, then renames it.

        A run that is killed in between has the previous checkpoint as it was. Exactly one process
        renames, between two barriers: upstream's atomic saving was reverted twice, because the
        renames of several ranks raced (transformers issues 27929 and 29839).
        """
        step = self.trainer.state.global_step
        staging = self.folder / f"{retention.STAGING}{step}"
        self.writing = True
        try:
            with retention.removed_if_full(staging, self.bytes_needed, only_model):
                self._write(staging / f"checkpoint-{step}", only_model, pending)
        finally:
            self.writing = False
        if not only_model:
            self.saved_step = step

    def write_to_continue(self, pending: Pending | None = None) -> None:
        """Writes a whole checkpoint for a run that a signal stops.

        No run could continue from a checkpoint of the model alone.
        """
        self.write(only_model=False, pending=pending)

    def _write(self, staged: Path, only_model: bool, pending: Pending | None) -> None:
        trainer, final = self.trainer, self.folder / staged.name
        if self.trial is None:
            trainer.store_flos()
        upstream.save_model(trainer, str(staged))
        if not only_model:
            self._write_states(staged, pending)
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            self._name_best()
            self._write_facts(staged)
            atomic_folder.publish(staged, final)
            staged.parent.rmdir()
            retention.rotate(
                self.folder, trainer.args.save_total_limit, trainer.state.best_model_checkpoint
            )
        trainer.accelerator.wait_for_everyone()
        self._name_best()
        if trainer.args.push_to_hub:
            upstream.push_checkpoint(trainer, str(final))

    def _write_states(self, staged: Path, pending: Pending | None) -> None:
        """Writes the states of optimizer, schedule, scaler and random generators.

        They are arrays and JSON, where Trainer writes pickles.
        """
        trainer = self.trainer
        writes = trainer.args.should_save
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            # Each process writes the parts that it holds.
            upstream.save_sharded_states(trainer, str(staged))
            (staged / SCHEDULER_NAME).unlink(missing_ok=True)
        elif writes:
            tensor_files.write(trainer.optimizer.state_dict(), staged / OPTIMIZER)
        if writes and hasattr(trainer.lr_scheduler, "state_dict"):
            tensor_files.write(trainer.lr_scheduler.state_dict(), staged / SCHEDULER)
        if writes and trainer.accelerator.scaler is not None:
            tensor_files.write(trainer.accelerator.scaler.state_dict(), staged / SCALER)
        own = upstream.progress_of_loss(trainer)
        own |= {"seconds": time.time() - self.began, "pending": pending}
        progress.write(staged, trainer.args.process_index, own)

    def _write_facts(self, staged: Path) -> None:
        """Writes Trainer's state, the position in a stream, and what the checkpoint belongs to."""
        trainer = self.trainer
        exported = [*trainer.callback_handler.callbacks, trainer.control]
        for callback in exported:
            if isinstance(callback, ExportableState):
                self._export(callback)
        trainer.state.save_to_json(str(staged / TRAINER_STATE_NAME))
        if isinstance(trainer.train_dataset, PositionedStream):
            rows = trainer.state.global_step * trainer.plan.rows_per_step
            trainer.train_dataset.save_position(staged, rows)
        text = json.dumps(self.fingerprint, indent=2, sort_keys=True)
        (staged / retention.FINGERPRINT).write_text(text, encoding="utf-8")

    def _export(self, callback: ExportableState) -> None:
        states, name = self.trainer.state.stateful_callbacks, type(callback).__name__
        if isinstance(states.get(name), list):
            states[name].append(callback.state())
        else:
            states[name] = callback.state()

    def _name_best(self) -> None:
        state = self.trainer.state
        if state.best_global_step:
            best = self.folder / f"checkpoint-{state.best_global_step}"
            if self.best_elsewhere and self.best_elsewhere.name == best.name:
                best = self.best_elsewhere
            state.best_model_checkpoint = str(best)

    # --- Continuing ---

    @property
    def nothing_left(self) -> bool:
        """Whether the training was over when the checkpoint was written.

        Trainer would take one more step.
        """
        state = self.trainer.state
        return state.global_step >= state.max_steps or self.ended_early

    def prepare(self) -> None:
        """Reads from the checkpoint what must be known before Trainer begins."""
        if self.resumed is None:
            return
        self._check_shards()
        state = resuming.read_state(self.resumed)
        self.saved_step = state.global_step
        self.ended_early = resuming.was_stopped(state) and state.global_step < state.max_steps
        rows = self.saved_step * self.trainer.plan.rows_per_step
        resuming.continue_stream(self.trainer, self.resumed, rows)

    @property
    def _starts_over(self) -> bool:
        """Whether the optimizer cannot use the states in the checkpoint."""
        return changed_settings.starts_over(self.trainer.args.optim.value, self.changed)

    def _check_shards(self) -> None:
        """Refuses another optimizer where the states are sharded: they are loaded in any case."""
        is_sharded = self.trainer.is_deepspeed_enabled or self.trainer.is_fsdp_enabled
        if is_sharded and self._starts_over:
            what = f"DeepSpeed and FSDP cannot leave out the optimizer's states in {self.resumed}"
            fix = (
                "train its model further: --model_name_or_path of that folder, another --output_dir"
            )
            raise Refusal(what, "--allow_changed", fix)

    def restore_rest(self) -> None:
        """Restores what Trainer does not restore.

        That is: intervals, callbacks, the best checkpoint so far, the loss since the last log, the
        time, and an evaluation that a signal interrupted.
        """
        if not self._rest_is_missing:
            return
        self._rest_is_missing = False
        trainer, resumed = self.trainer, self.resumed
        resuming.restore_intervals_and_callbacks(trainer, resumed)
        own = progress.read(resumed, trainer.args.process_index, trainer.args.world_size)
        self._find_best()
        upstream.continue_losses(trainer, own)
        upstream.count_all_steps(trainer)
        self.began -= own["seconds"]
        if own["pending"]:
            trainer.control.should_evaluate = True
            trainer.control.should_save = own["pending"]["save"]
            self.restore_randomness(resumed)  # what is saved now contains it, too
            upstream.log_save_evaluate(trainer, self.began, self.trial)

    def _find_best(self) -> None:
        """Finds the best checkpoint so far.

        It stands in this run's folder, or in the folder of the run that is continued. The path in
        the checkpoint is never used. Where the best one is gone, or scores mean something else now,
        the best one is judged from here on.
        """
        state = self.trainer.state
        state.best_model_checkpoint = None
        if not state.best_global_step:
            return
        if judged_by := sorted(JUDGED_BY & self.changed.keys()):
            note(f"another --{judged_by[0]}: the best checkpoint is chosen by it from here on")
            self._reset_best()
            return
        name = f"checkpoint-{state.best_global_step}"
        named = Path(str(self.trainer.args.resume_from_checkpoint or "")).parent
        folders = [
            folder
            for folder in (self.folder, self.resumed.parent, named)
            if (folder / name).is_dir()
        ]
        if not folders:
            gone = f"{name} was the best so far, and is gone from {self.resumed.parent}"
            warn(f"{gone}: the best is chosen among the checkpoints from here on")
            self._reset_best()
        elif folders[0] != self.folder:
            self.best_elsewhere = folders[0] / name
        self._name_best()

    def _reset_best(self) -> None:
        self.trainer.state.best_metric = None
        self.trainer.state.best_global_step = 0

    # --- Random generators, optimizer and schedule ---

    def restore_randomness_once(self) -> None:
        """Restores the random generators once per training.

        A run that stopped between two epochs restores them before a batch is read. Any other run
        restores them after the first batches are read, because reading may have used them.
        """
        if self._random_states is not None:
            self.restore_randomness(self._random_states)
            self._random_states = None

    def restore_randomness(self, checkpoint: Path) -> None:
        """Sets the random generators as this process left them.

        A process that is new gets a seed of its own.
        """
        arguments = self.trainer.args
        if not progress.restore_randomness(checkpoint, arguments.process_index):
            torch.manual_seed(
                arguments.seed + arguments.process_index + self.trainer.state.global_step
            )

    def load_states(self, checkpoint: Path) -> None:
        """Loads optimizer, schedule and scaler, then sets what the flags have changed since."""
        trainer = self.trainer
        if trainer.is_deepspeed_enabled:  # it has loaded the optimizer's states already
            settings = changed_settings.of_flags(trainer.args, trainer.optimizer)
        else:
            settings = changed_settings.of(trainer.optimizer)
        with retention.readable(checkpoint):
            if trainer.is_fsdp_enabled:
                resuming.load_fsdp_states(trainer, checkpoint)
            elif not trainer.is_deepspeed_enabled:
                self._load_optimizer(checkpoint / OPTIMIZER)
            if (checkpoint / SCHEDULER).exists():
                self._load_schedule(checkpoint / SCHEDULER)
            if trainer.accelerator.scaler is not None and (checkpoint / SCALER).exists():
                trainer.accelerator.scaler.load_state_dict(tensor_files.read(checkpoint / SCALER))
        if self.changed:
            changed_settings.renew(trainer.optimizer, settings, self.changed)
            changed_settings.renew_schedule(
                trainer.lr_scheduler, trainer.optimizer, settings, self.changed
            )

    def _load_optimizer(self, path: Path) -> None:
        """Loads the optimizer's states.

        The states of another method, or of other weights, cannot be used.
        """
        optimizer = self.trainer.optimizer
        if self._starts_over:
            other = f"the states in {path.parent} belong to another optimizer, or to other weights"
            note(f"the optimizer starts over: {other}")
            return
        state = tensor_files.read(path)
        if "optim" in self.changed:
            changed_settings.fit(state, optimizer)
        tensor_files.check_optimizer(state, optimizer)
        optimizer.load_state_dict(state)

    def _load_schedule(self, path: Path) -> None:
        """Loads the place in the schedule; in another schedule it is the step of the checkpoint."""
        schedule = self.trainer.lr_scheduler
        if "lr_scheduler_type" in self.changed:
            schedule.last_epoch = self.trainer.state.global_step
            return
        state = tensor_files.read(path)
        tensor_files.check_like(state, schedule.state_dict())
        schedule.load_state_dict(state)
