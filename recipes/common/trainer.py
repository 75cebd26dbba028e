"""The one Trainer subclass: whole checkpoints, predictions in order, a loss that stays finite."""

import json
import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import DistributedType, load_fsdp_optimizer
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME, get_fsdp_ckpt_kwargs
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.trainer_utils import EvalPrediction, PredictionOutput

from recipes.common import (
    checkpoints,
    finite,
    heads,
    kernels,
    layers,
    losses,
    manifests,
    places,
    sharding,
    signals,
    states,
    world,
)
from recipes.common.callbacks import LossLeaps, PlaceInStream, Progress, SaveLast
from recipes.common.errors import Refusal, TrainingFailed, did_you_mean
from recipes.common.folders import ADAPTED
from recipes.common.generation import Answers
from recipes.common.models import lost_weight, parameters, save_base_configuration
from recipes.common.orders import TokenBatches, for_evaluation, for_training, in_order, unlabel_repeats
from recipes.common.packing import Stream
from recipes.common.tokens import Endless

OPTIMIZER, SCHEDULER = "optimizer.safetensors", "scheduler.safetensors"
KEYS = ["row", "epoch", "context"]  # what collators read beside the model's own inputs


class Trainer(transformers.Trainer):
    """transformers.Trainer with the defaults a run should be able to rely on."""

    fingerprint: dict[str, Any] | None = None  # what a checkpoint belongs to: data, tokenizer, model, versions
    _staging: Path | None = None
    _evaluated: Any = None
    _encoded: torch.Tensor | None = None  # what the encoder made of the last batch that was evaluated
    _random_from: str | None = None  # the checkpoint whose random state is still to be restored
    _resumed: Path | None = None  # the checkpoint whose place in the run is still to be taken up
    _saved_step = -1
    _ended_early = False  # by early stopping, before the checkpoint was written
    _pending: dict[str, bool] | None = None  # what a signal kept from being done after the last step
    _norm: finite.Norm | None = None  # of the gradients, not looked at yet

    def __init__(
        self, *arguments: Any, tokens_per_batch: int | None = None, answers: Answers | None = None, **options: Any
    ):
        """Trainer's own arguments; `tokens_per_batch` makes batches by tokens instead of rows (orders.TokenBatches),
        and `answers` write a text for every row that is evaluated."""
        if isinstance(options.get("train_dataset"), Endless):  # accelerate would join batches of different lengths
            options["args"].accelerator_config.dispatch_batches = False
        super().__init__(*arguments, **options)
        if self.args.gradient_checkpointing and not self.model.supports_gradient_checkpointing:
            what = f"{type(self.model).__name__} cannot compute its activations again"
            raise Refusal(what, "--gradient_checkpointing", "leave it out, or choose another architecture")
        if self.args.world_size > 1:
            layers.keep_all(self.model)
        self.order = for_training(self.train_dataset, self.args, tokens_per_batch)
        self.answers = answers if getattr(self.args, "predict_with_generate", False) else None
        scored = isinstance(self.compute_loss_func, losses.TokenLoss)
        backend = None
        if self.args.torch_compile:
            backend = self.args.torch_compile_backend
            layers.leave_out_needless_masks(self.model)
        self._head = heads.install(self.model, self.compute_loss_func, backend) if scored else None
        if self.answers is not None and self._head is None:
            self.answers.together = 1  # the logits of one batch are enough
        if self.preprocess_logits_for_metrics is not None:
            self.args.prediction_loss_only = False  # sums of tokens are as small as the loss, and they are right
        if self.compute_metrics is not None:
            self.compute_metrics = partial(self._score, self.compute_metrics)
        if self.pop_callback(ProgressCallback):
            self.add_callback(Progress)
        self._save_last = SaveLast()
        self.add_callback(self._save_last)
        self.add_callback(LossLeaps)
        if isinstance(self.train_dataset, (Stream, Endless)):
            self.add_callback(PlaceInStream)

    def create_accelerator_and_postprocess(self) -> None:
        """Trainer's accelerator, and with it whether FSDP shares the model out."""
        super().create_accelerator_and_postprocess()
        self.is_fsdp_enabled = sharding.begin(self.accelerator.state, self.args)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Stops the run at the first logged loss or gradient norm that is not finite."""
        self._look_at_norm()
        skipped = {"grad_norm"} if self.args.fp16 else set()  # the scaler skips such a step
        if name := finite.first_not_finite({key: logs[key] for key in logs.keys() - skipped}):
            raise self._not_finite(name, logs[name])
        super().log(logs, start_time)

    def train(self, resume_from_checkpoint: str | None = None, **options: Any) -> Any:
        """Trains; a stream goes on at the position that the checkpoint holds, without reading all that came before."""
        if resume_from_checkpoint:
            self._go_on_from(Path(resume_from_checkpoint))
        if self.args.process_index:  # or all processes would drop out the same
            torch.manual_seed(self.args.seed + self.args.process_index)
        self._began = time.time()
        try:
            with signals.kept():
                return super().train(resume_from_checkpoint, **options)
        except RuntimeError as error:
            if not world.lost_another(error):
                raise
            where = f"process {self.args.process_index}, after step {self.state.global_step}"
            fix = "see what that process said; the same command goes on from the last checkpoint"
            raise TrainingFailed("another process ended or does not answer", where, fix) from None

    def _go_on_from(self, checkpoint: Path) -> None:
        self._resumed, self._saved_step = checkpoint, checkpoints.step(checkpoint)
        with checkpoints.readable(checkpoint):
            state = transformers.TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            checkpoints.check_state(checkpoint, state)
            stop = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
            self._ended_early = stop and state.global_step < state.max_steps
            if isinstance(self.train_dataset, Stream):
                self.train_dataset.load(checkpoint, self.model.get_input_embeddings().num_embeddings)
        if isinstance(self.train_dataset, Endless):
            fetched = self.args.train_batch_size * self.args.world_size
            self.train_dataset.go_to(self._saved_step * self.rows_a_step, fetched)
        if isinstance(self.train_dataset, (Stream, Endless)):
            self.args.ignore_data_skip = True
            self._random_from = str(checkpoint)

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **options: Any) -> None:
        with checkpoints.readable(checkpoint):
            super()._load_from_checkpoint(checkpoint, *args, **options)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A weight that a checkpoint lacks would stay random: no matter for a warning."""
        super()._issue_warnings_after_load(load_result)
        lost = lost_weight(self.model, load_result.missing_keys)
        if lost:
            raise LookupError(f"it lacks the weight {lost}")

    def _load_best_model(self) -> None:
        """The weights of the best checkpoint, which nobody has looked at since it was written."""
        best = Path(self.state.best_model_checkpoint)
        if found := manifests.damage(best):
            fix = "--load_best_model_at_end false --allow_changed load_best_model_at_end ends with the last weights"
            raise Refusal(f"the best checkpoint is damaged: {found}", str(best), fix)
        sharding.reshard(self.model)
        with checkpoints.readable(best):
            super()._load_best_model()

    def _init_training_state(self, *arguments: Any) -> Any:
        with checkpoints.readable(self._resumed or ""):
            return super()._init_training_state(*arguments)

    def _run_epoch(self, **options: Any) -> None:
        """An epoch; none where the checkpoint is that of the last step, which Trainer would take once more."""
        self._take_up()
        self._look_at_norm()  # of the last epoch, whose rows stand in its order
        if self.order is not None:  # on several processes, after a resume, nobody else tells it
            self.order.set_epoch(options["epoch"])
        if self.state.global_step >= self.state.max_steps or self._ended_early:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**options)

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
        place = places.read(resumed, self.args.process_index, self.args.world_size)
        self.state.best_model_checkpoint = None  # a path that stands in a file
        self._name_best(Path(self.args.output_dir))
        self._tr_loss += place["loss"]
        self._total_loss_scalar, self._globalstep_last_logged = place["total_loss"], place["logged_step"]
        self._began -= place["seconds"]
        if place["pending"]:
            self.control.should_evaluate, self.control.should_save = True, place["pending"]["save"]
            self._load_rng_state(str(resumed))  # what is saved now holds it, too
            self._maybe_log_save_evaluate(
                self._tr_loss, None, self.model_wrapped, None, self.state.epoch, None, self._began
            )

    def _maybe_log_save_evaluate(self, *args: Any, **options: Any) -> None:
        """Trainer's; a signal that cuts the evaluation short leaves a checkpoint from which it is made up for."""
        try:
            super()._maybe_log_save_evaluate(*args, **options)
        except signals.Stopped:
            self._pending = {"save": self.control.should_save}
            self._save_checkpoint(self.model_wrapped, None)
            raise

    def _prepare_for_training(self, *args: Any) -> Any:
        if not self.is_fsdp_enabled:
            return super()._prepare_for_training(*args)
        with sharding.laid_out(self.model, self.accelerator.state.fsdp_plugin):
            return super()._prepare_for_training(*args)

    def create_scheduler(self, *args: Any, **options: Any) -> Any:
        """The learning rate's schedule."""
        try:
            return super().create_scheduler(*args, **options)
        except (TypeError, ValueError) as error:
            fix = f"give what {self.args.lr_scheduler_type} takes, as JSON"
            raise Refusal(str(error), "--lr_scheduler_kwargs", fix) from None

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
            name, known = self.args.metric_for_best_model, [key.removeprefix("eval_") for key in metrics]
            fix = did_you_mean(name, known, f"one of {', '.join(known)}")
            raise Refusal(f"no metric {name!r}", "--metric_for_best_model", fix) from None

    def get_batch_samples(self, *args: Any) -> Any:
        """The batches of a step; after a stream's first ones the random state, which reading them changed, is restored.

        Trainer restores it only where it skipped batches itself.
        """
        batches, *rest = args
        if isinstance(self.train_dataset, Stream):
            self.train_dataset.collect()
        samples = super().get_batch_samples(map(self._each_row_once, batches), *rest)
        if self._random_from:
            self._load_rng_state(self._random_from)
            self._random_from = None
        return samples

    def _each_row_once(self, batch: dict[str, Any]) -> dict[str, Any]:
        filled = hasattr(self.train_dataset, "__len__") and not isinstance(self.order, TokenBatches)
        if filled and self.accelerator.gradient_state.end_of_dataloader:
            rows, processes, rank = self.args.train_batch_size, self.args.world_size, self.args.process_index
            unlabel_repeats(batch, len(self.train_dataset) % (rows * processes), rows * rank)
        return batch

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """The labels that count in the whole step, over all processes; Trainer counts ratings that are missing, too."""
        if self.compute_loss_func is None or not batch_samples or not self.args.average_tokens_across_devices:
            self._stop_here()
            return super()._get_num_items_in_batch(batch_samples, device)
        number = torch.stack([losses.count(batch["labels"]) for batch in batch_samples]).sum()
        if self.args.world_size == 1:
            self._stop_here()
            return number.to(device)
        numbers = torch.stack([number.to(device), torch.as_tensor(signals.received(), device=device)])
        found = self.accelerator.gather(numbers).reshape(-1, 2)  # one exchange for both
        self._stop_here(int(found[:, 1].max()))
        return found[:, 0].sum()

    def _stop_here(self, signal: int | None = None) -> None:
        """Between two steps: where any process got a signal, all save and stop."""
        if signal := self._signal() if signal is None else signal:
            if self.state.global_step > max(self._saved_step, 0):
                self._save_checkpoint(self.model_wrapped, None)
            raise signals.Stopped(signal, self.state.global_step)

    def _signal(self) -> int:
        """The signal that any process got, or 0."""
        if self.args.world_size == 1:  # no exchange, which waits until a GPU has done all that it was told
            return signals.received()
        return int(self.accelerator.gather(torch.tensor([signals.received()], device=self.args.device)).max())

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """The loss of a batch, its gradients added to the model's."""
        with self._kernels():
            return super().training_step(*args, **options)

    def _kernels(self) -> AbstractContextManager[None]:
        eager_on_cpu = self.args.device.type == "cpu" and not self.args.torch_compile
        return kernels.for_cpu() if eager_on_cpu else nullcontext()

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **options: Any) -> Any:
        """The loss; DeepSpeed takes its optimizer step with the backward pass, so that the loss is looked at before."""
        scored = self._head is not None and "labels" in inputs
        with self._head.predicting(inputs["labels"]) if scored else nullcontext():
            output = super().compute_loss(model, inputs, *args, **options)
        loss, outputs = output if isinstance(output, tuple) else (output, {})
        self._encoded = outputs.get("encoder_last_hidden_state")
        by_deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        if by_deepspeed and self.model.training and not loss.isfinite():
            raise self._not_finite("the loss", float(loss))
        return output

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient norm, which the optimizer's step follows: one that is not finite ends the run before; on a GPU
        in the next step, or before anything is saved."""
        self._look_at_norm()
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(grad_norm, DTensor):  # FSDP2's: each process holds a part
            grad_norm = grad_norm.full_tensor()
        if grad_norm is not None and not self.args.fp16:  # fp16's scaler skips steps
            self._norm = finite.Norm(grad_norm, self.state.global_step)
            if not self._norm.late:
                self._look_at_norm()
        return grad_norm

    def _look_at_norm(self) -> None:
        norm, self._norm = self._norm, None
        if norm is not None and not math.isfinite(norm):
            raise self._not_finite("the gradient norm", float(norm), norm.step)

    def _not_finite(self, name: str, value: float | str, step: int | None = None) -> TrainingFailed:
        step = self.state.global_step if step is None else step
        folder = Path(self.args.output_dir) if self.is_world_process_zero() else None
        return finite.failure(name, value, step, self._rows_of_step(step), folder)

    def _rows_of_step(self, step: int) -> list[int]:
        """The row ids (of packed texts the blocks) of a step."""
        rows = self.order.rows_of_step(step) if self.order is not None else []
        named = "row_id" in (getattr(self.train_dataset, "column_names", None) or [])
        return [int(self.train_dataset[row]["row_id"]) if named else row for row in rows]

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """The metrics, which see the predictions in the order of the data set; random generators stay as they are."""
        self._look_at_norm()
        self._evaluated = self.eval_dataset if eval_dataset is None else eval_dataset
        if self.is_in_train and self.answers is not None:
            self._evaluated = self.answers.sample(self._evaluated)
        with states.randomness_kept():
            return super().evaluate(self._evaluated, *args, **options)

    def predict(self, test_dataset: Any, *args: Any, **options: Any) -> PredictionOutput:
        """Predictions in the order of the data set, although the rows run through the model sorted by length."""
        self._evaluated = test_dataset
        output = super().predict(test_dataset, *args, **options)
        predictions, labels = in_order(self._evaluated, (output.predictions, output.label_ids))
        return PredictionOutput(predictions, labels, output.metrics)

    def prediction_step(self, model: Any, inputs: dict, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """Loss, logits and labels of a batch; with --predict_with_generate the logits come with the generated ids."""
        if self.is_in_train and (signal := self._signal()):
            raise signals.Stopped(signal, self.state.global_step)
        with self._kernels():
            if self.answers is None:
                return self._score_batch(model, inputs, prediction_loss_only, ignore_keys)[:3]
            inputs = self._prepare_inputs(inputs)
            parts = self.answers.parts(inputs)
            scored = [self._score_batch(model, part, prediction_loss_only, ignore_keys) for part in parts]
            losses, logits, _, encoded = zip(*scored, strict=True)
            shared_out = self.args.world_size > 1 and (is_deepspeed_zero3_enabled() or self.is_fsdp_enabled)
            with self.accelerator.autocast():  # around all tokens of the answers: weights are cast once
                generated = self.answers.write(self.model, inputs, encoded, shared_out)
            return torch.stack(losses).mean(), (torch.cat(logits), generated), inputs["labels"]

    def _score_batch(self, model: Any, inputs: dict, prediction_loss_only: bool, ignore_keys: Any) -> tuple:
        self._encoded = None
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        return loss, logits[0] if isinstance(logits, tuple) else logits, labels, self._encoded

    def _score(self, compute_metrics: Any, prediction: EvalPrediction) -> dict[str, float]:
        """Metrics get the rows in order, and as `inputs` the data set: its texts are the references."""
        ordered = in_order(self._evaluated, (prediction.predictions, prediction.label_ids))
        return compute_metrics(EvalPrediction(*ordered, inputs=self._evaluated))

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            self._signature_columns += KEYS

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """Nothing: the report writes README.md, and push_to_hub would replace it by an empty form."""

    def _get_dataloader(self, dataset: Any, *args: Any, is_training: bool = False, **options: Any) -> Any:
        """Training draws its order from (seed, epoch) alone; evaluation takes rows of like length together: less
        padding, and the order that `predict` takes back.

        Decided here, because Trainer drops the length column before it asks for a sampler, and because its own
        sampler for group_by_length would draw a random order.
        """
        order = self.order if is_training else for_evaluation(dataset, self.args, self.answers)
        if order is not None:
            options["sampler_fn"] = lambda _: order
        loader = super()._get_dataloader(dataset, *args, is_training=is_training, **options)
        if isinstance(order, BatchRebalanceSampler) and self.args.world_size > 1:
            sampler = loader.batch_sampler  # accelerate's, which must not take batches of different sizes apart
            sampler.batch_size, sampler.even_batches = None, False
        inner = loader.base_dataloader
        inner.generator = torch.Generator()  # or each pass would draw from the model's random numbers
        if inner.num_workers and sys.platform == "linux":
            inner.multiprocessing_context = signals.workers()
        return loader

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Model and tokenizer; Trainer's own writes its arguments beside them, a pickle with the Hub token in clear."""
        writes, folder = self.args.should_save, Path(output_dir or self.args.output_dir)
        if not writes and not self.is_distributed_loading_by_transformers:
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.is_fsdp_enabled:
            state_dict = sharding.tied(model, state_dict)
        model.save_pretrained(folder, state_dict=state_dict, is_main_process=writes)
        if writes and self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        if writes and isinstance(model, PeftModel):
            save_base_configuration(model, folder / ADAPTED)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes aside, then renames: whoever kills the run in between finds the previous checkpoint as it was.

        Exactly one process renames, between two barriers: upstream's atomic saving was reverted twice because the
        renames of several ranks raced (transformers issues 27929 and 29839).
        """
        self._check_finite()
        output_dir, name = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}"
        self._staging = output_dir / f"{checkpoints.STAGING}{self.state.global_step}"
        try:
            with checkpoints.room(self._staging, self.checkpoint_bytes):
                self._write_checkpoint(model, trial, output_dir, name)
            self._saved_step = self.state.global_step
        finally:
            self._staging = None

    def _check_finite(self) -> None:
        """Refuses to publish a model whose loss or weights, on any process, are not finite."""
        self._look_at_norm()
        found = torch.stack([self._tr_loss.isfinite().all(), finite.weights(self.model, self.args.device)])
        loss, weight = self.accelerator.gather(found).reshape(-1, 2).all(dim=0).tolist()
        if not loss:
            raise self._not_finite("the training loss", self._tr_loss.item())
        if not weight:
            raise self._not_finite("a weight", "not finite")

    def _write_checkpoint(self, model: Any, trial: Any, output_dir: Path, name: str) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._name_best(output_dir)
            self.state.save_to_json(str(self._staging / name / TRAINER_STATE_NAME))
            if isinstance(self.train_dataset, Stream):
                self.train_dataset.save(self._staging / name, self.state.global_step * self.rows_a_step)
            text = json.dumps(self.fingerprint, indent=2, sort_keys=True)
            (self._staging / name / checkpoints.FINGERPRINT).write_text(text, encoding="utf-8")
            manifests.publish(self._staging / name, output_dir / name)
            self._staging.rmdir()
            checkpoints.rotate(output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        self._name_best(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Arrays and JSON, where Trainer pickles; DeepSpeed and FSDP write the parts of a shared-out optimizer."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            Path(output_dir, SCHEDULER_NAME).unlink(missing_ok=True)
        elif self.args.should_save:
            states.write(self.optimizer.state_dict(), Path(output_dir, OPTIMIZER))
        if self.args.should_save and hasattr(self.lr_scheduler, "state_dict"):
            states.write(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self.is_fsdp_enabled:
            plugin, options = self.accelerator.state.fsdp_plugin, get_fsdp_ckpt_kwargs()
            load_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, checkpoint, **options)
        with checkpoints.readable(checkpoint):
            if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
                state = states.read(Path(checkpoint, OPTIMIZER))
                states.check_optimizer(state, self.optimizer)
                self.optimizer.load_state_dict(state)
            if Path(checkpoint, SCHEDULER).exists():
                state = states.read(Path(checkpoint, SCHEDULER))
                states.check_like(state, self.lr_scheduler.state_dict())
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
        places.write(Path(output_dir), self.args.process_index, place)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint and not places.restore_randomness(Path(checkpoint), self.args.process_index):
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
        rows = 1 if isinstance(self.order, TokenBatches) else self.args.train_batch_size
        return rows * self.args.gradient_accumulation_steps * self.args.world_size

    def _name_best(self, output_dir: Path) -> None:
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(output_dir / f"checkpoint-{self.state.best_global_step}")
