"""The one Trainer subclass: batches and their order, the loss that counts, predictions in the order of the rows."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_pt_utils import BatchRebalanceSampler, nested_detach
from transformers.trainer_utils import EvalPrediction, PredictionOutput

from recipes.common.checkpoints import tensor_files
from recipes.common.config import services
from recipes.common.model import fast_layers
from recipes.common.runtime import signals
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens.collators import never_empty, never_unanswered
from recipes.common.tokens.encoding import Endless
from recipes.common.train import cpu_kernels, fsdp, fused_lm_loss, losses
from recipes.common.train.callbacks import LossLeaps, Progress, outlive_reports
from recipes.common.train.checkpointing import ResumableTrainer
from recipes.common.train.generation import Answers
from recipes.common.train.samplers import TokenBatches, for_evaluation, for_training, in_order, unlabel_repeats

KEYS = ["row", "epoch", "context"]  # what collators read beside the model's own inputs


class Trainer(ResumableTrainer):
    """transformers.Trainer with the defaults a run should be able to rely on."""

    _built = False  # whether __init__ has come to its end
    _made_for: tuple | None = None  # what `order` was made for: data set, rows of a batch, batches of a step, seeds
    _as_ordered = True  # whether the training's batches come from a loader that was made here, not by a subclass
    _evaluated: Any = None
    _kept_for: Any = None  # the data set for which workers are kept
    _measured: torch.Tensor | None = None  # of an evaluation so far: the loss times the labels, and the labels

    def __init__(
        self, *arguments: Any, tokens_per_batch: int | None = None, answers: Answers | None = None, **options: Any
    ):
        """Trainer's own arguments; `tokens_per_batch` makes batches by tokens instead of rows (orders.TokenBatches),
        and `answers` write a text for every row that is evaluated."""
        if isinstance(options.get("train_dataset"), Endless):  # accelerate would join batches of different lengths
            options["args"].accelerator_config.dispatch_batches = False
        super().__init__(*arguments, **options)
        self._loss, self._tokens_per_batch = self.compute_loss_func, tokens_per_batch
        self._make_ready(self.model)
        if self.train_dataset is not None:
            self._order_rows(self.train_dataset)
        self.answers = answers if getattr(self.args, "predict_with_generate", False) else None
        self.data_collator = never_empty(self.data_collator, self.processing_class)
        if self.args.label_names is None and "labels" in self.label_names:
            self.label_names = ["labels"]  # LUKE has entity_labels as well, which no recipe has
        if self.answers is not None and self._head is None:
            self.answers.together = 1  # the logits of one batch are enough
        if self.preprocess_logits_for_metrics is not None:
            self.args.prediction_loss_only = False  # sums of tokens are as small as the loss, and they are right
        if self.compute_metrics is not None:
            self.compute_metrics = partial(self._score, self.compute_metrics)
        callbacks = self.callback_handler.callbacks
        if bar := next((one for one in callbacks if type(one) is ProgressCallback), None):  # a user's own one stays
            self.remove_callback(bar)
            self.add_callback(Progress)
        self.add_callback(LossLeaps)
        outlive_reports(self.callback_handler.callbacks)
        self._built = True

    def _make_ready(self, model: torch.nn.Module) -> None:
        """What a model needs before it is trained: the head that computes what counts, and layers that fit the run."""
        able = getattr(model, "supports_gradient_checkpointing", hasattr(model, "gradient_checkpointing_enable"))
        if self.args.gradient_checkpointing and not able:
            what = f"{type(model).__name__} cannot compute its activations again"
            raise Refusal(what, "--gradient_checkpointing", "leave it out, or choose another architecture")
        if self.args.world_size > 1:
            fast_layers.keep_all(model)
        backend = None
        if self.args.torch_compile:
            backend = self.args.torch_compile_backend
            fast_layers.leave_out_needless_masks(model)
        scored = isinstance(self._loss, losses.TokenLoss)
        self._head = fused_lm_loss.install(model, self._loss, backend) if scored else None
        if self._loss is not None and losses.has_routers(model):
            self.compute_loss_func = losses.WithRouters(self._loss, model)

    def call_model_init(self, trial: Any = None) -> torch.nn.Module:
        """The model that `model_init` makes for a training; each is made ready as the first was."""
        model = super().call_model_init(trial)
        if self._built:
            self._make_ready(model)
        return model

    def _order_rows(self, dataset: Any) -> None:
        """Sets the order in which rows are trained on, anew where data set, batch or seed are others than before."""
        batch = (self._train_batch_size, self.args.gradient_accumulation_steps)
        made_for = (id(dataset), *batch, self.args.seed, self.args.data_seed)
        if self._made_for != made_for:
            self.order = for_training(dataset, self.args, self._tokens_per_batch, self._train_batch_size)
            self._made_for = made_for

    def create_accelerator_and_postprocess(self) -> None:
        """Trainer's accelerator, and with it whether FSDP shares the model out."""
        super().create_accelerator_and_postprocess()
        self.is_fsdp_enabled = fsdp.begin(self.accelerator.state, self.args)

    def _run_epoch(self, **options: Any) -> None:
        """An epoch, in its own order: on several processes, after a resume, nobody else tells it."""
        self._look_at_norm()  # of the last epoch, whose rows stand in its order
        if self.order is not None:
            self.order.set_epoch(options["epoch"])
        super()._run_epoch(**options)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, *args: Any) -> Any:
        self._as_ordered = hasattr(train_dataloader, "order")
        if not self.is_fsdp_enabled:
            return super()._prepare_for_training(max_steps, train_dataloader, *args)
        with fsdp.laid_out(self.model, self.accelerator.state.fsdp_plugin):
            return super()._prepare_for_training(max_steps, train_dataloader, *args)

    def _rows_of_step(self, step: int) -> list[int]:
        return super()._rows_of_step(step) if self._as_ordered else []

    def create_optimizer(self, *args: Any, **options: Any) -> Any:
        """The optimizer, which may look for modules that the model does not have."""
        with services.refused("--optim and --optim_target_modules", services.OTHERS):
            return super().create_optimizer(*args, **options)

    def create_scheduler(self, *args: Any, **options: Any) -> Any:
        """The learning rate's schedule, which may not fit the number of steps."""
        with services.refused("--lr_scheduler_kwargs", f"give what {self.args.lr_scheduler_type.value} takes, as JSON"):
            return super().create_scheduler(*args, **options)

    def get_batch_samples(self, batches: Iterator[dict[str, Any]], *args: Any) -> Any:
        """The batches of a step, in which no row counts twice."""
        return super().get_batch_samples(map(self._each_row_once, batches), *args)

    def _each_row_once(self, batch: dict[str, Any]) -> dict[str, Any]:
        processes, rank = self.args.world_size, self.args.process_index
        filled = processes > 1 and hasattr(self.train_dataset, "__len__") and not self.args.dataloader_drop_last
        if filled and self._in_rows() and self.accelerator.gradient_state.end_of_dataloader:
            rows = self._train_batch_size
            unlabel_repeats(batch, len(self.train_dataset) % (rows * processes), rows * rank)
        return batch

    def _in_rows(self) -> bool:
        """Whether each batch but the last has as many rows as was asked for: not those of another loader."""
        return self._as_ordered and not isinstance(self.order, TokenBatches)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """The labels that count in the whole step, over all processes; Trainer counts ratings that are missing, too."""
        labelled = bool(batch_samples) and "labels" in batch_samples[0]
        if self.compute_loss_func is None or not labelled or not self.args.average_tokens_across_devices:
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

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """The loss of a batch, its gradients added to the model's."""
        with self._kernels():
            return super().training_step(*args, **options)

    def _kernels(self) -> AbstractContextManager[None]:
        eager_on_cpu = self.args.device.type == "cpu" and not self.args.torch_compile
        return cpu_kernels.for_cpu() if eager_on_cpu else nullcontext()

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **options: Any) -> Any:
        """The loss, of which the head computes what counts."""
        inputs = self._with_decoder_inputs(inputs)
        if isinstance(self.compute_loss_func, losses.WithRouters):
            inputs = {**inputs, **self.compute_loss_func.asks_for}
        scored = self._head is not None and "labels" in inputs
        with self._head.predicting(inputs["labels"]) if scored else nullcontext():
            output = super().compute_loss(model, inputs, *args, **options)
        if isinstance(output, tuple) and options.get("num_items_in_batch") is not None:
            self._measure(output[0], options["num_items_in_batch"])
        return output

    def _measure(self, loss: torch.Tensor, labels: Any) -> None:
        """Adds up the loss of an evaluation's batches, each with the weight of its labels."""
        labels = torch.as_tensor(labels, device=loss.device).double() / self.args.world_size  # which share the batch
        found = torch.stack([loss.detach().mean().double() * labels, labels])
        self._measured = found if self._measured is None else self._measured + found

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """One pass over a data set: predictions, labels and metrics."""
        self._measured = None
        return super().evaluation_loop(*args, **options)

    def _with_decoder_inputs(self, inputs: dict) -> dict:
        """Of a masked model with a decoder (BART) the labels, shifted, are what its decoder reads: it shifts what it is
        given where it gets labels, which are the loss's here."""
        shift = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        is_given = "decoder_input_ids" in inputs or "labels" not in inputs
        if shift is None or is_given or not isinstance(self._loss, losses.TokenLoss):
            return inputs
        return {**inputs, "decoder_input_ids": shift(labels=never_unanswered(inputs["labels"], self.model.config))}

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """The metrics, which see the predictions in the order of the data set; random generators stay as they are.

        A dict of data sets is evaluated one by one, as Trainer does: `eval_NAME_loss`, …
        """
        self._look_at_norm()
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(chosen, dict):
            return super().evaluate(eval_dataset, *args, **options)
        self._evaluated = self.eval_dataset[chosen] if isinstance(chosen, str) else chosen
        if self.is_in_train and self.answers is not None:
            self._evaluated = eval_dataset = self.answers.sample(self._evaluated)
        with tensor_files.randomness_kept():
            return super().evaluate(eval_dataset, *args, **options)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Trainer's; persistent workers are kept for the data set that they read, and not given another one's place."""
        if not isinstance(eval_dataset, str):
            wanted = self.eval_dataset if eval_dataset is None else eval_dataset
            if wanted is not self._kept_for:
                getattr(self, "_eval_dataloaders", {}).pop("eval", None)
            self._kept_for = wanted
        return super().get_eval_dataloader(eval_dataset)

    def predict(self, test_dataset: Any, *args: Any, **options: Any) -> PredictionOutput:
        """Predictions in the order of the data set, although the rows run through the model sorted by length."""
        self._evaluated = test_dataset
        output = super().predict(test_dataset, *args, **options)
        predictions, labels = self._restored((output.predictions, output.label_ids))
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
        """Loss, logits, labels and what the encoder made of the texts.

        Of named outputs the logits alone are predictions: a model may return states or its router's loss beside them.
        Outputs without names stay as they are.
        """
        with _outputs_of(model) as found:
            loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        named = found[-1] if found and isinstance(found[-1], dict) else {}
        if logits is not None and "logits" in named and "logits" not in (ignore_keys or ()):
            logits = nested_detach(named["logits"])
        return loss, logits, labels, named.get("encoder_last_hidden_state")

    def _score(self, compute_metrics: Any, prediction: EvalPrediction, **options: Any) -> dict[str, float]:
        """Metrics get the rows in order, and as `inputs` the data set: its texts are the references. With
        --batch_eval_metrics they get batch by batch, as it was computed, and with --include_for_metrics what they ask
        for."""
        if self.args.batch_eval_metrics:
            return compute_metrics(prediction, **options)
        ordered = self._restored((prediction.predictions, prediction.label_ids))
        found = EvalPrediction(*ordered, inputs=self._restored(prediction.inputs), losses=prediction.losses)
        if found.inputs is None:
            found.inputs = self._evaluated  # here: `logits, labels = prediction` goes on to work
        return self._with_own_loss(compute_metrics(found))

    def _with_own_loss(self, scores: dict[str, float]) -> dict[str, float]:
        """The scores, of which the loss is that of the function that trains, where the metrics compute another one."""
        if type(self).compute_loss is not Trainer.compute_loss:  # Trainer's mean of the batches stays
            return {name: score for name, score in scores.items() if name != "loss"}
        if self._loss is None or self._measured is None or getattr(self._loss, "is_scored", False):
            return scores
        total, labels = self.accelerator.reduce(self._measured, "sum").tolist()
        return {**scores, "loss": total / labels} if labels else scores

    def _restored(self, arrays: Any) -> Any:
        """Arrays of rows in the order of the data set, where the last evaluation's loader took them by length."""
        order = getattr(self.callback_handler.eval_dataloader, "order", None)
        return arrays if order is None else in_order(self._evaluated, arrays)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            self._signature_columns += KEYS

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """The data set without what the model does not take; a text is none of its inputs, whatever it is called."""
        texts = [name for name, kind in dataset.features.items() if getattr(kind, "dtype", "").endswith("string")]
        return super()._remove_unused_columns(dataset.remove_columns(texts), description)

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """Nothing: the report writes README.md, and push_to_hub would replace it by an empty form."""

    def _get_dataloader(self, dataset: Any, *args: Any, is_training: bool = False, **options: Any) -> Any:
        """Training draws its order from (seed, epoch) alone; evaluation takes rows of like length together: less
        padding, and the order that `predict` takes back.

        Decided here, because Trainer drops the length column before it asks for a sampler, and because its own
        sampler for group_by_length would draw a random order.
        """
        if is_training:
            self._order_rows(dataset)
        order = self.order if is_training else for_evaluation(dataset, self.args, self.answers)
        if order is not None:
            options["sampler_fn"] = lambda _: order
        loader = super()._get_dataloader(dataset, *args, is_training=is_training, **options)
        if isinstance(order, BatchRebalanceSampler) and self.args.world_size > 1:
            sampler = loader.batch_sampler  # accelerate's, which must not take batches of different sizes apart
            sampler.batch_size, sampler.even_batches = None, False
        inner = getattr(loader, "base_dataloader", loader)
        inner.generator = torch.Generator()  # or each pass would draw from the model's random numbers
        chosen = self.args.dataloader_multiprocessing_context
        if inner.num_workers and not chosen and sys.platform == "linux":
            inner.multiprocessing_context = signals.workers()
        loader.order = order
        return loader


@contextmanager
def _outputs_of(model: torch.nn.Module) -> Iterator[list]:
    """Within it the outputs of the model's forward passes are collected."""
    found = []
    handle = model.register_forward_hook(lambda model, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()
