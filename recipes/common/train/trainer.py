"""Trains with exact losses, an order that the seed decides, whole checkpoints and stop signals.

Each part is an object of its own: `checkpoints`, `guard`, `stops`, `evaluation`, `loaders` with the
`sampler`. This class connects them to the methods that transformers calls, and overrides no other.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import DistributedType
from peft import PeftModel
from safetensors.torch import save_model
from torch.distributed.tensor import DTensor
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_pt_utils import nested_detach
from transformers.trainer_utils import PredictionOutput, number_of_arguments
from transformers.utils import SAFE_WEIGHTS_NAME

from recipes.common.checkpoints import atomic_folder, retention, tensor_files
from recipes.common.config import services, training_settings
from recipes.common.model import adapters, fast_layers
from recipes.common.model.model_folders import ADAPTED
from recipes.common.runtime import processes, signals, upstream
from recipes.common.runtime.errors import Refusal, TrainingFailed
from recipes.common.runtime.messages import did_you_mean
from recipes.common.tokens.collators import never_empty, never_unanswered
from recipes.common.tokens.encoding import RowStream, Tokens
from recipes.common.tokens.positions import PositionedStream
from recipes.common.train import callbacks, cpu_kernels, fsdp, fused_lm_loss, losses, resuming
from recipes.common.train.checkpointing import Checkpoints
from recipes.common.train.evaluation import Evaluation, outputs_of
from recipes.common.train.finite_guard import FiniteGuard
from recipes.common.train.loaders import Loaders
from recipes.common.train.plan import Plan
from recipes.common.train.samplers import TokenBatches, unlabel_repeats
from recipes.common.train.stop_signals import StopSignals
from recipes.common.train.trained_task import TrainedTask

COLLATOR_COLUMNS = ["row", "epoch", "context"]  # what collators read beside the model's own inputs
NOT_A_SCORE = (
    "_low",
    "_high",
    "runtime",
    "_per_second",
    "_time",
    "epoch",
)  # endings of what is no score


class Trainer(transformers.Trainer):
    """Trains as transformers.Trainer does, with defaults that a run can rely on."""

    head: fused_lm_loss.Head | None = None
    uses_cpu_kernels = True  # on a CPU; False: all is computed by torch's own functions
    is_built = False

    def __init__(
        self,
        *arguments: Any,
        task: TrainedTask | None = None,
        tokens: Tokens | None = None,
        model_init: Callable[..., torch.nn.Module] | None = None,
        **options: Any,
    ):
        """Takes the arguments of transformers.Trainer.

        A `task` stands for loss, metrics, collator, what is kept of the logits and generated texts;
        its `tokens` stand for the data sets.
        """
        if task is not None:
            options["compute_loss_func"] = task.loss
            options["compute_metrics"] = task.compute_metrics
            options["preprocess_logits_for_metrics"] = task.reduce_logits
            options["data_collator"] = task.data_collator
        if tokens is not None:
            options["train_dataset"], options["eval_dataset"] = tokens.train, tokens.validation
        if isinstance(options.get("train_dataset"), RowStream):
            training_settings.read_batches_apart(options["args"])
        super().__init__(*arguments, model_init=self._ready(model_init), **options)
        self.task, self.tokens, self.loss = task, tokens, self.compute_loss_func
        self.tokens_per_batch = getattr(tokens, "tokens_per_batch", None)
        self.is_fsdp_enabled = fsdp.begin(self.accelerator, self.args)
        self.stops = StopSignals(self.accelerator, self.args.device)
        self.evaluation = Evaluation(self)
        self.checkpoints = Checkpoints(self)
        self.loaders = Loaders(self)
        folder = Path(self.args.output_dir) if self.is_world_process_zero() else None
        self.guard = FiniteGuard(self.rows_of_step, folder)
        self._make_ready(self.model)
        if self.train_dataset is not None:
            self.loaders.set_sampler(self.train_dataset)
        self._evaluate_as_asked()
        self._add_callbacks()
        self.is_built = True

    # --- Setting up ---

    def _ready(
        self, model_init: Callable[..., torch.nn.Module] | None
    ) -> Callable[..., torch.nn.Module] | None:
        """Returns `model_init`, whose models are made ready as the first one was."""
        if model_init is None:
            return None

        def build(trial: Any = None) -> torch.nn.Module:
            model = model_init(trial) if number_of_arguments(model_init) else model_init()
            if self.is_built:
                self._make_ready(model)
            return model

        return build

    def _make_ready(self, model: torch.nn.Module) -> None:
        """Gives the model a head that computes only labelled positions, and layers for this run."""
        able = getattr(
            model,
            "supports_gradient_checkpointing",
            hasattr(model, "gradient_checkpointing_enable"),
        )
        if self.args.gradient_checkpointing and not able:
            what = f"{type(model).__name__} cannot compute its activations again"
            raise Refusal(
                what, "--gradient_checkpointing", "leave it out, or choose another architecture"
            )
        if self.args.world_size > 1:
            fast_layers.disable_layerdrop(model)
        backend = None
        if self.args.torch_compile:
            backend = self.args.torch_compile_backend
            fast_layers.leave_out_needless_masks(model)
        self.head = None
        if isinstance(self.loss, losses.TokenLoss):
            self.head = fused_lm_loss.install(model, self.loss, backend)
        if self.loss is not None and losses.has_routers(model):
            self.compute_loss_func = losses.WithRouters(self.loss, model)

    def _evaluate_as_asked(self) -> None:
        """Sets what an evaluation computes: logits, sums over tokens, or texts."""
        generates = self.task is not None and getattr(self.args, "predict_with_generate", False)
        self.generation = self.task.generation if generates else None
        if self.generation is not None and self.head is None:
            self.generation.score_one_batch_at_once()
        self.data_collator = never_empty(self.data_collator, self.processing_class)
        if self.args.label_names is None and "labels" in self.label_names:
            self.label_names = ["labels"]  # LUKE has entity_labels as well, which no recipe has
        upstream.keep_columns(self, COLLATOR_COLUMNS)
        if self.preprocess_logits_for_metrics is not None:
            training_settings.collect_predictions(self.args)
        if self.compute_metrics is not None:
            self.compute_metrics = partial(self.evaluation.score, self.compute_metrics)

    def _add_callbacks(self) -> None:
        for callback in [*self.callback_handler.callbacks]:
            if type(callback) is ProgressCallback:  # a user's own one stays
                self.remove_callback(callback)
                self.add_callback(callbacks.Progress)
        for callback in (
            self.guard,
            callbacks.ContinueFromCheckpoint(self),
            callbacks.SaveLast(),
            callbacks.BestOfSaved(),
        ):
            self.add_callback(callback)
        if isinstance(self.train_dataset, PositionedStream):
            self.add_callback(callbacks.epochs_of_stream(self.train_dataset, self.args))
        self.add_callback(callbacks.LossLeaps)
        callbacks.outlive_reports(self.callback_handler.callbacks)

    @property
    def sampler(self) -> Any:
        """Returns what chooses the rows of each batch of the training; None: they come as they
        are."""
        return self.loaders.sampler

    @property
    def plan(self) -> Plan:
        """Returns how many batches and steps the training takes."""
        batches = len(self.sampler) if isinstance(self.sampler, TokenBatches) else None
        return Plan(self.args, self.train_dataset, upstream.batch_size(self), batches)

    @property
    def has_own_compute_loss(self) -> bool:
        """Whether a subclass computes its loss in a method of its own."""
        return type(self).compute_loss is not Trainer.compute_loss

    def rows_of_step(self, step: int) -> list[int]:
        """Returns the row ids (for packed texts the blocks) of a step.

        Returns none where another loader chooses the rows.
        """
        if self.sampler is None or not self.loaders.is_ours():
            return []
        rows = self.sampler.rows_of_step(step)
        if "row_id" not in (getattr(self.train_dataset, "column_names", None) or []):
            return rows
        return [int(self.train_dataset[row]["row_id"]) for row in rows]

    # --- Training ---

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        *args: Any,
        fingerprint: dict[str, Any] | None = None,
        changed: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Trains the model.

        True continues from the newest whole checkpoint in the output folder, a path from that one.
        `fingerprint` says in each checkpoint which run it belongs to. `changed` are the flags that
        differ from those of the checkpoint, with their old values.
        """
        found = resuming.find(resume_from_checkpoint, self)
        self.checkpoints = Checkpoints(self, trial, found, fingerprint, changed)
        self.checkpoints.prepare()
        self._check_optimizer_and_schedule()
        if self.args.process_index:  # otherwise all processes would drop the same activations
            torch.manual_seed(self.args.seed + self.args.process_index)
        try:
            with signals.polled(), self._kernels():
                return super().train(str(found) if found else None, trial, *args, **options)
        except RuntimeError as error:
            if not processes.lost_another(error):
                raise
            raise self._lost_another() from None
        finally:
            self.is_in_train = False  # where Trainer did not come to its end

    def _check_optimizer_and_schedule(self) -> None:
        """Refuses modules that the model lacks, and a schedule that does not fit the steps."""
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            with services.refused("--optim and --optim_target_modules", services.OTHERS):
                self.get_optimizer_cls_and_kwargs(self.args, self.model)
        if self.lr_scheduler is None:
            steps = self.plan.steps
            services.check_schedule(self.args, self.args.get_warmup_steps(steps), steps)

    def _lost_another(self) -> TrainingFailed:
        where = f"process {self.args.process_index}, after step {self.state.global_step}"
        then = "the same command continues from the last checkpoint"
        if self.args.save_only_model:
            then = retention.STARTS_OVER
        return TrainingFailed(
            "another process ended or does not answer", where, f"see what that process said; {then}"
        )

    def _kernels(self) -> AbstractContextManager[None]:
        is_eager_on_cpu = self.args.device.type == "cpu" and not self.args.torch_compile
        if self.uses_cpu_kernels and is_eager_on_cpu:
            return cpu_kernels.for_cpu()
        return nullcontext()

    def _run_epoch(self, **options: Any) -> None:
        """Runs an epoch with rows in its own order; no epoch if the training was over before."""
        if self.checkpoints.nothing_left:
            self.control.should_training_stop = True
            return
        self.guard.check_norm()  # of the last epoch, whose rows the sampler still knows
        if self.sampler is not None:
            # On several processes, after a resume, nobody else sets the epoch.
            self.sampler.set_epoch(options["epoch"])
        begins = options["steps_trained_in_current_epoch"] == 0
        if begins and not isinstance(self.train_dataset, PositionedStream):
            self.checkpoints.restore_randomness_once()
        super()._run_epoch(**options)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Any]:
        """Returns the batches of a step, and how many labels count in the whole step.

        No row counts twice. Trainer has no hook between reading the batches of a step and computing
        them. So the run stops here where a process has got a signal (one exchange between processes
        tells both numbers), and a resumed run restores its random generators here: reading the
        batches may have used them.
        """
        if isinstance(self.train_dataset, PositionedStream):
            self.train_dataset.collect()
        batches = [self._each_row_once(batch) for batch in islice(epoch_iterator, num_batches)]
        number, signal = self._labels_and_signal(batches, device)
        self.stop_if_asked(signal)
        self.checkpoints.restore_randomness_once()
        return batches, number

    def _each_row_once(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the batch; rows that fill up an epoch's last batches lose their labels."""
        processes, rows = self.args.world_size, upstream.batch_size(self)
        has_length = hasattr(self.train_dataset, "__len__")
        is_filled = processes > 1 and has_length and not self.args.dataloader_drop_last
        is_last = is_filled and self.accelerator.gradient_state.end_of_dataloader
        if is_last and self.loaders.is_ours() and not isinstance(self.sampler, TokenBatches):
            own = len(self.train_dataset) % (rows * processes)
            unlabel_repeats(batch, own, rows * self.args.process_index)
        return batch

    def _labels_and_signal(
        self, batches: list[dict[str, Any]], device: torch.device
    ) -> tuple[Any, int]:
        """Returns the number of labels of the step, and the signal that a process got, or 0.

        Both are those of all processes, by one exchange. Trainer itself would also count ratings
        that are missing.
        """
        is_labelled = bool(batches) and "labels" in batches[0]
        if (
            self.compute_loss_func is None
            or not is_labelled
            or not self.args.average_tokens_across_devices
        ):
            signal = self.stops.received()
            return upstream.labels_in_batches(self, batches, device), signal
        own = torch.stack([losses.count(batch["labels"]) for batch in batches]).sum()
        signal, number = self.stops.received_and_summed(own)
        return number, signal

    def stop_if_asked(self, signal: int) -> None:
        """Saves and stops between two steps, where any process has got a signal."""
        if not signal:
            return
        if self.state.global_step > max(self.checkpoints.saved_step, 0):
            self._check_model()
            self.checkpoints.write_to_continue()
        raise signals.Stopped(signal, self.state.global_step)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Returns the loss of a batch; the head computes only the logits that have a label."""
        inputs = self._with_decoder_inputs(inputs)
        if isinstance(self.compute_loss_func, losses.WithRouters):
            inputs = {**inputs, **self.compute_loss_func.asks_for}
        is_scored = self.head is not None and "labels" in inputs
        predicting = self.head.predicting(inputs["labels"]) if is_scored else nullcontext()
        with predicting:
            output = super().compute_loss(model, inputs, *args, **options)
        loss = output[0] if isinstance(output, tuple) else output
        if isinstance(output, tuple) and options.get("num_items_in_batch") is not None:
            self.evaluation.add_loss(loss, options["num_items_in_batch"])
        if self.model.training and self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            # DeepSpeed's backward pass takes the optimizer's step, too.
            self.guard.check_loss(loss, self.state.global_step)
        return output

    def _with_decoder_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Returns the inputs, with those of the decoder for a masked model that has one (BART).

        Such a model makes them from the labels. Here the labels belong to the loss, so the model
        gets what it would have made.
        """
        shift = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        is_given = "decoder_input_ids" in inputs or "labels" not in inputs
        if shift is None or is_given or not isinstance(self.loss, losses.TokenLoss):
            return inputs
        return {
            **inputs,
            "decoder_input_ids": shift(
                labels=never_unanswered(inputs["labels"], self.model.config)
            ),
        }

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Returns the gradient norm, and checks it before the optimizer's step.

        The scaler of fp16 skips steps whose norm is infinite by itself.
        """
        self.guard.check_norm()
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(grad_norm, DTensor):  # of FSDP2: each process holds a part
            grad_norm = grad_norm.full_tensor()
        if grad_norm is not None and not self.args.fp16:
            self.guard.watch_norm(grad_norm, self.state.global_step)
        return grad_norm

    def _check_model(self) -> None:
        loss = upstream.loss_since_log(self)
        self.guard.check_model(loss, self.model, self.accelerator, self.state.global_step)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """Ends the training as Trainer does.

        Loss and time are those of all parts of the run; checkpoints stay as they are.
        """
        self.stop_if_asked(self.stops.received())
        self._check_model()
        with training_settings.every_checkpoint_kept(self.args):
            return super()._finalize_training(trial, num_train_samples, self.checkpoints.began)

    # --- Evaluating ---

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """Returns the metrics of a data set; the random generators stay as they are.

        A dict of data sets is evaluated one by one, as Trainer does: `eval_NAME_loss`, …
        """
        self.guard.check_norm()
        prefix = options.get("metric_key_prefix", "eval")
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(chosen, dict):
            return self._judged(super().evaluate(eval_dataset, *args, **options), prefix)
        chosen = self.eval_dataset[chosen] if isinstance(chosen, str) else chosen
        if self.is_in_train and self.generation is not None:
            chosen = eval_dataset = self.generation.sample(chosen)
        self.evaluation.begin(chosen)
        with tensor_files.randomness_kept(), self._kernels():
            try:
                metrics = super().evaluate(eval_dataset, *args, **options)
            except signals.Stopped:
                self._save_before_evaluation()
                raise
        return self._judged(metrics, prefix)

    def _save_before_evaluation(self) -> None:
        """Saves a checkpoint. A run that continues from it repeats the interrupted evaluation."""
        if self.control.should_evaluate:  # and not one that a callback asked for by itself
            self._check_model()
            self.checkpoints.write_to_continue({"save": self.control.should_save})

    def _judged(self, metrics: dict[str, float], prefix: str) -> dict[str, float]:
        """Returns the metrics; refuses them where the one that judges the best model is missing."""
        named = self.args.metric_for_best_model
        if self.is_in_train and named and prefix == "eval":
            self.check_metric(named, metrics)
        return metrics

    def check_metric(self, name: str, metrics: Any) -> None:
        """Refuses a --metric_for_best_model that is none of the metrics of an evaluation."""
        scores = [key for key in metrics if not key.endswith(NOT_A_SCORE)]
        known = dict.fromkeys(key.removeprefix("eval_") for key in scores)
        if name.removeprefix("eval_") not in known:
            fix = did_you_mean(name.removeprefix("eval_"), known, f"one of {', '.join(known)}")
            raise Refusal(f"no metric {name!r}", "--metric_for_best_model", fix)

    def predict(self, test_dataset: Any, *args: Any, **options: Any) -> PredictionOutput:
        """Returns predictions in the order of the data set.

        The rows run through the model sorted by length.
        """
        self.evaluation.begin(test_dataset)
        with self._kernels():
            output = super().predict(test_dataset, *args, **options)
        in_order = self.evaluation.in_order
        return PredictionOutput(
            in_order(output.predictions), in_order(output.label_ids), output.metrics
        )

    def prediction_step(
        self, model: Any, inputs: dict, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """Returns loss, logits and labels of a batch.

        With --predict_with_generate the generated ids come with the logits.
        """
        if self.is_in_train and (signal := self.stops.received()):
            raise signals.Stopped(signal, self.state.global_step)
        if self.generation is None:
            return self._score_batch(model, inputs, prediction_loss_only, ignore_keys)[:3]
        inputs = self._prepare_inputs(inputs)
        parts = self.generation.parts(inputs)
        scored = [
            self._score_batch(model, part, prediction_loss_only, ignore_keys) for part in parts
        ]
        losses, logits, _, encoded = zip(*scored, strict=True)
        is_sharded = self.args.world_size > 1 and (
            is_deepspeed_zero3_enabled() or self.is_fsdp_enabled
        )
        with self.accelerator.autocast():  # around all tokens of the answers: weights are cast once
            generated = self.generation.write(self.model, inputs, encoded, is_sharded)
        return torch.stack(losses).mean(), (torch.cat(logits), generated), inputs["labels"]

    def _score_batch(
        self, model: Any, inputs: dict, prediction_loss_only: bool, ignore_keys: Any
    ) -> tuple:
        """Returns loss, logits, labels, and the hidden states of the encoder.

        Of named outputs the logits alone are predictions: a model may return states or its router's
        loss beside them. Outputs without names stay as they are.
        """
        with outputs_of(model) as found:
            loss, logits, labels = super().prediction_step(
                model, inputs, prediction_loss_only, ignore_keys
            )
        named = found[-1] if found and isinstance(found[-1], dict) else {}
        if logits is not None and "logits" in named and "logits" not in (ignore_keys or ()):
            logits = nested_detach(named["logits"])
        return loss, logits, labels, named.get("encoder_last_hidden_state")

    # --- Loading data ---

    def _get_dataloader(
        self, dataset: Any, *args: Any, is_training: bool = False, **options: Any
    ) -> Any:
        """Returns the loader of a data set, in the order that `Loaders` decides."""
        key = options.pop("dataloader_key", None)
        if kept := self.loaders.kept(key, dataset):
            return kept
        sampler = self.loaders.sampler_of(dataset, is_training)
        if sampler is not None:
            options["sampler_fn"] = lambda _: sampler
        columns = self.loaders.without_texts(dataset)
        loader = super()._get_dataloader(columns, *args, is_training=is_training, **options)
        return self.loaders.finish(loader, sampler, key, dataset)

    # --- Saving and loading ---

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Saves model and tokenizer.

        Trainer itself saves its arguments beside them: a pickle that holds the Hub token.
        """
        writes, folder = self.args.should_save, Path(output_dir or self.args.output_dir)
        if not writes and not self.is_distributed_loading_by_transformers:
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.is_fsdp_enabled:
            state_dict = fsdp.tied(model, state_dict)
        # The weights of a checkpoint have the names in memory, as Trainer loads them. Those of a
        # finished model have the names that they came with.
        names = {"save_original_format": False} if self.checkpoints.writing else {}
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
        self._check_model()
        self.checkpoints.write(self.args.save_only_model)

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **options: Any) -> None:
        if not self.is_fsdp_enabled:
            return resuming.load_weights(self.model, Path(checkpoint))
        with retention.readable(checkpoint):
            super()._load_from_checkpoint(checkpoint, *args, **options)

    def _load_best_model(self) -> None:
        """Loads the weights of the best checkpoint; refuses it where it has changed since."""
        best = Path(self.state.best_model_checkpoint)
        if found := atomic_folder.damage(best):
            flags = "--load_best_model_at_end false --allow_changed load_best_model_at_end"
            what = f"the best checkpoint is damaged: {found}"
            raise Refusal(what, str(best), f"{flags} ends with the last weights")
        if not self.is_deepspeed_enabled and not self.is_fsdp_enabled:
            return resuming.load_weights(self.model, best)
        fsdp.reshard(self.model)
        with retention.readable(best):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.checkpoints.load_states(Path(checkpoint))

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """Writes nothing.

        The report writes README.md, which push_to_hub would replace by an empty form.
        """
