"""Keeps what one evaluation gives: predictions in the order of the rows, and the loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import EvalPrediction

from recipes.common.train.samplers import in_order


class Evaluation:
    """Holds the state of one evaluation: its data set, and its loss so far."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.dataset: Any = None
        # The loss times the number of labels, and the number of labels.
        self._totals: torch.Tensor | None = None

    def begin(self, dataset: Any) -> None:
        """Starts a pass over a data set."""
        self.dataset, self._totals = dataset, None

    def add_loss(self, loss: torch.Tensor, labels: Any) -> None:
        """Adds the loss of a batch, with the weight of its labels.

        The processes share the labels of a batch.
        """
        world_size = self.trainer.args.world_size
        labels = torch.as_tensor(labels, device=loss.device).double() / world_size
        own = torch.stack([loss.detach().mean().double() * labels, labels])
        self._totals = own if self._totals is None else self._totals + own

    def score(
        self,
        compute_metrics: Callable[..., dict[str, float]],
        prediction: EvalPrediction,
        **options: Any,
    ) -> dict[str, float]:
        """Returns the metrics of the predictions, with the rows in the order of the data set.

        `inputs` are the data set itself, whose texts are the references, unless
        --include_for_metrics asks for something else. With --batch_eval_metrics each batch is
        scored as it was computed.
        """
        if self.trainer.args.batch_eval_metrics:
            return compute_metrics(prediction, **options)
        inputs = self.dataset if prediction.inputs is None else self.in_order(prediction.inputs)
        ordered = EvalPrediction(
            self.in_order(prediction.predictions),
            self.in_order(prediction.label_ids),
            losses=prediction.losses,
        )
        ordered.inputs = inputs  # not given above: `logits, labels = prediction` continues to work
        return self._with_loss(compute_metrics(ordered))

    def _with_loss(self, scores: dict[str, float]) -> dict[str, float]:
        """Returns the scores, with the loss of the function that trains."""
        trainer = self.trainer
        if trainer.has_own_compute_loss:  # Trainer's mean over the batches stays
            return {name: score for name, score in scores.items() if name != "loss"}
        is_scored = "loss" in scores and getattr(trainer.loss, "is_scored", False)
        if self._totals is None or trainer.loss is None or is_scored:
            return scores
        total, labels = trainer.accelerator.reduce(self._totals, "sum").tolist()
        return scores | {"loss": total / labels} if labels else scores

    def in_order(self, arrays: Any) -> Any:
        """Returns arrays with their rows in the order of the data set.

        The data loader may have sorted the rows by length.
        """
        loader = self.trainer.callback_handler.eval_dataloader
        if not self.trainer.loaders.is_sampled(loader):
            return arrays
        return in_order(self.dataset, arrays)


@contextmanager
def outputs_of(model: torch.nn.Module) -> Iterator[list[Any]]:
    """Collects the outputs of the model's forward passes."""
    found: list[Any] = []
    handle = model.register_forward_hook(lambda model, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()
