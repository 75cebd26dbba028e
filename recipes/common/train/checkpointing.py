"""A run that may be stopped anywhere, and goes on as if it had not been: its checkpoints are whole."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast_object_list, load_fsdp_optimizer
from peft import PeftModel
from safetensors.torch import save_model
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME, get_fsdp_ckpt_kwargs
from transformers.utils import SAFE_WEIGHTS_NAME

from recipes.common.checkpoints import atomic_folder, progress, retention, tensor_files
from recipes.common.model import adapters, weights
from recipes.common.model.loading import parameters
from recipes.common.model.model_folders import ADAPTED
from recipes.common.model.probes import words
from recipes.common.runtime import processes, signals
from recipes.common.runtime.errors import Refusal, TrainingFailed, did_you_mean, note, warn
from recipes.common.tokens.encoding import Endless
from recipes.common.tokens.packing import Stream
from recipes.common.train import callbacks, changed_settings, fsdp
from recipes.common.train.callbacks import EpochsOfStream, SaveLast
from recipes.common.train.finite_guard import FiniteTrainer
from recipes.common.train.samplers import TokenBatches

UNJUDGED = ("_low", "_high", "runtime", "_per_second", "_time", "epoch")  # endings of what is no score
OPTIMIZER, SCHEDULER = "optimizer.safetensors", "scheduler.safetensors"
# Flags by which an evaluation's score is not what it was.
JUDGED_BY = {"metric_for_best_model", "greater_is_better", "metric_name", "max_eval_samples", "validation_file"}
OF_ONE_TRAINING = ("_random_from", "_resumed", "_best_elsewhere", "_saved_step", "_ended_early", "_pending")


class ResumableTrainer(FiniteTrainer):
    """transformers.Trainer whose checkpoints are whole, hold no pickle, and know all that the run needs to go on."""

    fingerprint: dict[str, Any] | None = None  # what a checkpoint belongs to: flags, data, tokenizer, model, versions
    changed: Mapping[str, Any] = {}  # the flags that are not those of the checkpoint to go on from, and what they were
    _settings: Sequence[dict[str, Any]] = ()  # of the optimizer, as the flags say them
    _staging: Path | None = None
    _trial: Any = None  # of a search, which Trainer sets
    _random_from: str | None = None  # the checkpoint whose random state is still to be restored
    _resumed: Path | None = None  # the checkpoint whose place in the run is still to be taken up
    _best_elsewhere: Path | None = None  # the best checkpoint so far, in the folder of the run that is gone on with
    _saved_step = -1
    _ended_early = False  # by early stopping, before the checkpoint was written
    _pending: dict[str, bool] | None = None  # what a signal kept from being done after the last step

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._save_last = SaveLast()
        self.add_callback(self._save_last)
        if isinstance(self.train_dataset, (Stream, Endless)):
            self.add_callback(EpochsOfStream(self._steps_of_pass()))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        """Trains; True goes on from the newest whole checkpoint in the output folder, a path from that one. A stream
        goes on at the position that the checkpoint holds, without reading all that came before."""
        for name in OF_ONE_TRAINING:
            setattr(self, name, getattr(ResumableTrainer, name))
        checkpoint = self._checkpoint(resume_from_checkpoint)
        if checkpoint:
            self._go_on_from(Path(checkpoint))
        if self.args.process_index:  # or all processes would drop out the same
            torch.manual_seed(self.args.seed + self.args.process_index)
        self._began = time.time()
        try:
            with signals.kept():
                return super().train(checkpoint, *args, **options)
        except RuntimeError as error:
            if not processes.lost_another(error):
                raise
            where = f"process {self.args.process_index}, after step {self.state.global_step}"
            fix = "see what that process said; the same command goes on from the last checkpoint"
            if self.args.save_only_model:
                fix = f"see what that process said; {retention.STARTS_OVER}"
            raise TrainingFailed("another process ended or does not answer", where, fix) from None
        finally:
            self.is_in_train = False  # where Trainer did not come to its end

    def _checkpoint(self, named: str | bool | None) -> str | None:
        """The folder to go on from, or None; refuses what is no checkpoint of this class."""
        if not named:
            return None
        if named is True:
            return self._newest()
        if not Path(named, TRAINER_STATE_NAME).is_file():
            fix = "name a checkpoint-N folder, or say True: the newest whole one is found"
            raise Refusal(f"Can't find a valid checkpoint at {named}", "resume_from_checkpoint", fix)
        if why := retention.no_states(Path(named)):
            fix = "to go on from its weights, load the model from it and begin a new training"
            raise Refusal(f"{named} cannot be resumed: {why}", "resume_from_checkpoint", fix)
        return str(named)

    def _newest(self) -> str:
        output_dir = self.args.output_dir
        found = [retention.newest(Path(output_dir)) if self.is_world_process_zero() else None]
        newest = broadcast_object_list(found)[0]
        if newest is None:
            what = f"No valid checkpoint found in output directory ({output_dir})"
            raise Refusal(what, "resume_from_checkpoint", "leave it out to begin")
        return str(newest)

    def _go_on_from(self, checkpoint: Path) -> None:
        self._resumed = checkpoint
        with retention.readable(checkpoint):
            state = transformers.TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            retention.check_state(checkpoint, state)
            self._saved_step = state.global_step
            stop = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
            self._ended_early = stop and state.global_step < state.max_steps
            if isinstance(self.train_dataset, Stream):
                self.train_dataset.load(checkpoint, words(self.model))
        if isinstance(self.train_dataset, Endless):
            self.train_dataset.go_to(self._saved_step * self.rows_a_step)
        if isinstance(self.train_dataset, (Stream, Endless)):
            self.args.ignore_data_skip = True
            self._random_from = str(checkpoint)

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **options: Any) -> None:
        with self._reading(checkpoint):
            super()._load_from_checkpoint(checkpoint, *args, **options)

    @contextmanager
    def _reading(self, checkpoint: str | Path) -> Iterator[None]:
        """Trainer loads a checkpoint within it, under whatever names its weights were saved."""
        with retention.readable(checkpoint):
            try:
                yield
            except weights.LostWeight:
                if not isinstance(self.model, transformers.PreTrainedModel):
                    raise
                weights.reload(self.model, checkpoint)
            if isinstance(self.model, PeftModel) and not self.is_deepspeed_enabled and not self.is_fsdp_enabled:
                adapters.check_reloaded(self.model, Path(checkpoint))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A weight that a checkpoint lacks would stay what it is: no matter for a warning."""
        weights.check_loaded(self.model, load_result.missing_keys)
        if hasattr(self.model, "_keys_to_ignore_on_save"):  # a plain module of torch has no such list
            super()._issue_warnings_after_load(load_result)

    def _load_best_model(self) -> None:
        """The weights of the best checkpoint, which nobody has looked at since it was written."""
        best = Path(self.state.best_model_checkpoint)
        if found := atomic_folder.damage(best):
            fix = "--load_best_model_at_end false --allow_changed load_best_model_at_end ends with the last weights"
            raise Refusal(f"the best checkpoint is damaged: {found}", str(best), fix)
        fsdp.reshard(self.model)
        with self._reading(best):
            super()._load_best_model()

    def _init_training_state(self, max_steps: int, *arguments: Any) -> Any:
        """Trainer's, with the flags' own intervals of logs, evaluations and checkpoints: Trainer takes those of the
        checkpoint, with a warning among others (transformers issue 28867)."""
        with retention.readable(self._resumed or ""):
            found = super()._init_training_state(max_steps, *arguments)
            callbacks.restore(self.callback_handler.callbacks, self.state.stateful_callbacks)
        self.state.compute_steps(self.args, max_steps)
        return found

    def _run_epoch(self, **options: Any) -> None:
        """An epoch; none where the checkpoint is that of the last step, which Trainer would take once more."""
        self._take_up()
        if self.state.global_step >= self.state.max_steps or self._ended_early:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**options)

    def get_batch_samples(self, *args: Any) -> Any:
        """The batches of a step; after a stream's first ones the random state, which reading them changed, is restored.

        Trainer restores it only where it skipped batches itself.
        """
        if isinstance(self.train_dataset, Stream):
            self.train_dataset.collect()
        samples = super().get_batch_samples(*args)
        if self._random_from:
            self._load_rng_state(self._random_from)
            self._random_from = None
        return samples

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """Trainer's end of a training; loss and time are those of all its parts, checkpoints stay as they are."""
        self._take_up()
        self._stop_here()
        self._check_finite()
        self._initial_global_step = 0
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(trial, num_train_samples, self._began)
        finally:
            self.args.save_total_limit = limit

    def _take_up(self) -> None:
        """Takes up what the checkpoint knows and Trainer forgets: the loss since the last log, the time, and an
        evaluation that a signal cut short."""
        if not self._resumed:
            return
        resumed, self._resumed = self._resumed, None
        place = progress.read(resumed, self.args.process_index, self.args.world_size)
        self._find_best(resumed)
        self._tr_loss += place["loss"]
        self._total_loss_scalar, self._globalstep_last_logged = place["total_loss"], place["logged_step"]
        self._began -= place["seconds"]
        if place["pending"]:
            self.control.should_evaluate, self.control.should_save = True, place["pending"]["save"]
            self._load_rng_state(str(resumed))  # what is saved now holds it, too
            self._maybe_log_save_evaluate(
                self._tr_loss, None, self.model_wrapped, self._trial, self.state.epoch, None, self._began
            )

    def _find_best(self, resumed: Path) -> None:
        """The best checkpoint so far, in this run's folder or in that of the run that it goes on with; never by the
        path that stands in the checkpoint. Where it is gone, the best is judged anew."""
        self.state.best_model_checkpoint = None
        if not self.state.best_global_step:
            return
        if judged_by := sorted(JUDGED_BY & self.changed.keys()):
            note(f"another --{judged_by[0]}: which checkpoint is the best is judged from here on")
            return self._judge_anew()
        named, own = str(self.args.resume_from_checkpoint or ""), self._run_dir(self._trial)
        name = f"checkpoint-{self.state.best_global_step}"
        folders = [own, resumed.parent, Path(named).parent]
        found = next((folder for folder in folders if (folder / name).is_dir()), None)
        if found is None:
            warn(f"{name} was the best so far, and is gone from {resumed.parent}: the best is judged from here on")
            self._judge_anew()
        elif found != own:
            self._best_elsewhere = found / name
        self._name_best(own)

    def _judge_anew(self) -> None:
        self.state.best_metric, self.state.best_global_step = None, 0

    def _maybe_log_save_evaluate(self, *args: Any, **options: Any) -> None:
        """Trainer's; a signal that cuts the evaluation short leaves a checkpoint from which it is made up for."""
        try:
            super()._maybe_log_save_evaluate(*args, **options)
        except signals.Stopped:
            self._pending = {"save": self.control.should_save}
            self._save_to_go_on()
            raise

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether these metrics are the best; with checkpoints less frequent than evaluations, only one that is saved
        can be: Trainer names a step that nobody can load."""
        best = self.state.best_metric, self.state.best_global_step
        saved = self.args.save_strategy not in ("steps", "epoch") or self.control.should_save or self._save_last.due
        try:
            found = super()._determine_best_metric(metrics, trial)
            if not saved:
                self.state.best_metric, self.state.best_global_step = best
            return found and saved
        except KeyError:
            self.check_metric(self.args.metric_for_best_model, metrics)
            raise

    def _evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Trainer's, which steps a schedule that waits for a metric."""
        try:
            return super()._evaluate(*args, **options)
        except KeyError as error:
            if "`metric_for_best_model`" in str(error):
                self.check_metric(self.args.metric_for_best_model, self.state.log_history[-1])
            raise

    def check_metric(self, name: str, metrics: Iterable[str]) -> None:
        """Refuses a --metric_for_best_model that is none of the metrics of an evaluation."""
        known = dict.fromkeys(key.removeprefix("eval_") for key in metrics if not key.endswith(UNJUDGED))
        if name.removeprefix("eval_") not in known:
            fix = did_you_mean(name.removeprefix("eval_"), known, f"one of {', '.join(known)}")
            raise Refusal(f"no metric {name!r}", "--metric_for_best_model", fix)

    def _stop_here(self, signal: int | None = None) -> None:
        """Between two steps: where any process got a signal, all save and stop."""
        if signal := self._signal() if signal is None else signal:
            if self.state.global_step > max(self._saved_step, 0):
                self._save_to_go_on()
            raise signals.Stopped(signal, self.state.global_step)

    def _save_to_go_on(self) -> None:
        """A whole checkpoint for a run that a signal stops: one of the model alone would be its end."""
        only_model, self.args.save_only_model = self.args.save_only_model, False
        try:
            self._save_checkpoint(self.model_wrapped, self._trial)
        finally:
            self.args.save_only_model = only_model

    def _signal(self) -> int:
        """The signal that any process got, or 0."""
        if self.args.world_size == 1:  # no exchange, which waits until a GPU has done all that it was told
            return signals.received()
        return int(self.accelerator.gather(torch.tensor([signals.received()], device=self.args.device)).max())

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _run_dir(self, trial: Any) -> Path:
        """The folder of the checkpoints: each trial of a search has its own."""
        return Path(super()._get_output_dir(trial))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Model and tokenizer; Trainer's own writes its arguments beside them, a pickle with the Hub token in clear."""
        writes, folder = self.args.should_save, Path(output_dir or self.args.output_dir)
        if not writes and not self.is_distributed_loading_by_transformers:
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.is_fsdp_enabled:
            state_dict = fsdp.tied(model, state_dict)
        # A checkpoint has the names of the model in memory, as Trainer loads it; a model that is done those it had.
        names = {"save_original_format": False} if self._staging else {}
        if isinstance(model, (transformers.PreTrainedModel, PeftModel)):
            model.save_pretrained(folder, state_dict=state_dict, is_main_process=writes, **names)
        elif writes:  # a plain module of torch, whose weights may be tied
            folder.mkdir(parents=True, exist_ok=True)
            save_model(model, str(folder / SAFE_WEIGHTS_NAME))
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if writes and tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if writes and isinstance(model, PeftModel):
            adapters.save_base_configuration(model, folder / ADAPTED)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes aside, then renames: whoever kills the run in between finds the previous checkpoint as it was.

        Exactly one process renames, between two barriers: upstream's atomic saving was reverted twice because the
        renames of several ranks raced (transformers issues 27929 and 29839).
        """
        self._check_finite()
        output_dir, name = self._run_dir(trial), f"checkpoint-{self.state.global_step}"
        self._staging = output_dir / f"{retention.STAGING}{self.state.global_step}"
        try:
            with retention.room(self._staging, self.checkpoint_bytes, self.args.save_only_model):
                self._write_checkpoint(model, trial, output_dir, name)
            if not self.args.save_only_model:
                self._saved_step = self.state.global_step
        finally:
            self._staging = None

    def _write_checkpoint(self, model: Any, trial: Any, output_dir: Path, name: str) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._name_best(output_dir)
            self.state.save_to_json(str(self._staging / name / TRAINER_STATE_NAME))
            if isinstance(self.train_dataset, Stream):
                self.train_dataset.save(self._staging / name, self.state.global_step * self.rows_a_step)
            text = json.dumps(self.fingerprint, indent=2, sort_keys=True)
            (self._staging / name / retention.FINGERPRINT).write_text(text, encoding="utf-8")
            atomic_folder.publish(self._staging / name, output_dir / name)
            self._staging.rmdir()
            retention.rotate(output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        self._name_best(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Arrays and JSON, where Trainer pickles; DeepSpeed and FSDP write the parts of a shared-out optimizer."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            Path(output_dir, SCHEDULER_NAME).unlink(missing_ok=True)
        elif self.args.should_save:
            tensor_files.write(self.optimizer.state_dict(), Path(output_dir, OPTIMIZER))
        if self.args.should_save and hasattr(self.lr_scheduler, "state_dict"):
            tensor_files.write(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def create_optimizer(self, *args: Any) -> Any:
        """The optimizer, whose settings are kept: the states that it loads from a checkpoint hold others."""
        optimizer = super().create_optimizer(*args)
        self._settings = changed_settings.of(optimizer)
        return optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self.is_fsdp_enabled:
            plugin, options = self.accelerator.state.fsdp_plugin, get_fsdp_ckpt_kwargs()
            load_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, checkpoint, **options)
        with retention.readable(checkpoint):
            if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
                self._load_optimizer(Path(checkpoint, OPTIMIZER))
            if Path(checkpoint, SCHEDULER).exists():
                self._load_schedule(Path(checkpoint, SCHEDULER))
        if self.changed:
            changed_settings.renew(self.optimizer, self._settings, self.changed)
            changed_settings.renew_schedule(self.lr_scheduler, self.optimizer, self._settings, self.changed)

    def _load_optimizer(self, path: Path) -> None:
        """The states of a checkpoint; those of another method, or of other weights, are no use to this optimizer."""
        if changed_settings.begins_anew(str(self.args.optim.value), self.changed):
            note(f"the optimizer begins anew: its states in {path.parent} are those of another one")
            return
        state = tensor_files.read(path)
        if "optim" in self.changed:
            changed_settings.fit(state, self.optimizer)
        tensor_files.check_optimizer(state, self.optimizer)
        self.optimizer.load_state_dict(state)

    def _load_schedule(self, path: Path) -> None:
        """The place in the schedule; in another one it is the step that the checkpoint was written after."""
        if "lr_scheduler_type" in self.changed:
            self.lr_scheduler.last_epoch = self.state.global_step
            return
        state = tensor_files.read(path)
        tensor_files.check_like(state, self.lr_scheduler.state_dict())
        self.lr_scheduler.load_state_dict(state)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self.accelerator.scaler is not None:  # or there is nothing that the file could be for
            super()._load_scaler(checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        place = {
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "logged_step": self._globalstep_last_logged,
            "seconds": time.time() - self._began,
            "pending": self._pending,
        }
        progress.write(Path(output_dir), self.args.process_index, place)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint and not progress.restore_randomness(Path(checkpoint), self.args.process_index):
            # There are more processes than before.
            torch.manual_seed(self.args.seed + self.args.process_index + self.state.global_step)

    @property
    def checkpoint_bytes(self) -> int:
        """What a checkpoint takes on disk, about: the weights (with DeepSpeed and FSDP once more, to go on from), and
        Adam's two numbers for each that is trained."""
        weights = sum(value.numel() * value.element_size() for value in self.model.parameters())
        copies = 2 if self.is_deepspeed_enabled or self.is_fsdp_enabled else 1
        return copies * weights + 8 * parameters(self.model)[1]

    @property
    def rows_a_step(self) -> int:
        """Rows (with --tokens_per_batch: batches) of one optimizer step, over all processes."""
        rows = 1 if isinstance(self.order, TokenBatches) else self._train_batch_size
        return rows * self.args.gradient_accumulation_steps * self.args.world_size

    def _steps_of_pass(self) -> Fraction | None:
        """The steps of a pass over a stream, where its rows were counted."""
        rows = self.args.train_batch_size * self.args.world_size
        steps = self.train_dataset.steps(rows, self.args.gradient_accumulation_steps)
        strategies = {name: getattr(self.args, name) for name in ("eval_strategy", "save_strategy")}
        waiting = [f"--{name} epoch" for name, value in strategies.items() if value == "epoch"]
        if steps is None and waiting:
            fix = "--eval_strategy steps --save_strategy steps do it on the way"
            warn(
                f"nobody knows where a pass over this stream ends: {', '.join(waiting)} waits for the last step; {fix}"
            )
        return steps

    @property
    def batches(self) -> int | None:
        """Batches of an epoch on each process; None of a stream, which has no length."""
        if not hasattr(self.train_dataset, "__len__"):
            return None
        if isinstance(self.order, TokenBatches):
            return len(self.order)
        rows = self.args.train_batch_size * self.args.world_size
        round_off = math.floor if self.args.dataloader_drop_last else math.ceil
        return round_off(len(self.train_dataset) / rows)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        if self.args.max_steps > 0 or self.batches is None:
            return self.args.max_steps
        return math.ceil(math.ceil(self.batches / self.args.gradient_accumulation_steps) * self.args.num_train_epochs)

    def _name_best(self, output_dir: Path) -> None:
        if self.state.best_global_step:
            best = output_dir / f"checkpoint-{self.state.best_global_step}"
            elsewhere = self._best_elsewhere
            self.state.best_model_checkpoint = str(elsewhere if elsewhere and elsewhere.name == best.name else best)
