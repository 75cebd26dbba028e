"""Computes the loss of an optimizer step: summed over its rows (or tokens), divided once.

Trainer's default divides BERT's and T5's loss by each micro-batch instead: loss and gradients come
out multiplied by accumulation steps and processes (transformers issue 47688).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from recipes.common.data.labels import MISSING, MULTI, REGRESSION, SINGLE, Labels
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, warn

Loss = Callable[..., torch.Tensor]
Outputs = Mapping[str, torch.Tensor]  # of a model, by name
Number = torch.Tensor | int | None  # of labels in a step; None: those of the batch are counted
# The losses that a mixture of experts adds, by their names among its outputs, and the names of the
# coefficient that weighs them.
ROUTERS = {
    ("aux_loss", "encoder_aux_loss", "decoder_aux_loss"): ("router_aux_loss_coef", "aux_loss_coef"),
    ("encoder_z_loss", "decoder_z_loss"): ("router_z_loss_coef",),
}


def for_problem(
    kind: str, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Loss:
    """Returns a compute_loss_func for Trainer: (outputs, labels, num_items_in_batch) -> scalar.

    It is cross entropy for classes, binary cross entropy for several labels, squared error for
    regression. With class weights the mean stays over rows, not over weights: balanced weights
    average to one over the training data.
    """
    if kind == REGRESSION and label_smoothing:
        note("--label_smoothing_factor has no effect on numbers")
    return LabelLoss(kind, label_smoothing, class_weights)


@dataclass(frozen=True)
class LabelLoss:
    """Computes the loss of labels of one kind: a compute_loss_func for Trainer."""

    kind: str
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None

    @property
    def is_scored(self) -> bool:
        """Whether the metrics compute this loss as well, from all rows at once."""
        return self.class_weights is None and not self.label_smoothing

    def __call__(
        self, outputs: Outputs, labels: torch.Tensor, num_items_in_batch: Number = None
    ) -> torch.Tensor:
        summed = {REGRESSION: _squared_error, MULTI: _binary_cross_entropy}
        sum_of = summed.get(self.kind, _cross_entropy)
        logits, weights = outputs["logits"].float(), None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, device=logits.device)
        total = sum_of(logits, labels, self.label_smoothing, weights)
        return _mean(total, labels, num_items_in_batch)


@dataclass(frozen=True)
class TokenLoss:
    """Computes cross entropy over tokens: a compute_loss_func for Trainer.

    With `shift` each token predicts the next one. Logits are [rows, length, vocabulary size], or
    the scores [positions, 2 or 3] of fused_lm_loss.Head, which smooths by itself.
    """

    label_smoothing: float = 0.0
    shift: bool = False

    @property
    def is_scored(self) -> bool:
        """Whether the metrics compute this loss as well, from all rows at once."""
        return not self.label_smoothing

    def __call__(
        self, outputs: Outputs, labels: torch.Tensor, num_items_in_batch: Number = None
    ) -> torch.Tensor:
        logits, labels = outputs["logits"], self.predicted(labels)
        if logits.dim() == 3:
            dense = for_problem(SINGLE, self.label_smoothing)
            return dense({"logits": logits[:, : labels.shape[1]]}, labels, num_items_in_batch)
        column = 2 if logits.shape[1] == 3 else 0
        total = logits[:, column].float().sum()  # FSDP2 may have cast the scores to 16 bits
        return _mean(total, labels, num_items_in_batch)

    def predicted(self, labels: torch.Tensor) -> torch.Tensor:
        """Returns for each position the label that it predicts: [rows, length].

        With `shift` there is one position less: the last one predicts no label.
        """
        if self.shift:
            return labels[:, 1:]
        return labels


class WithRouters:
    """Adds the loss of the routers of a mixture of experts to another loss, in training.

    It is how evenly the routers spread the tokens (`aux_loss`, Switch's `z_loss`), times the
    coefficient of the configuration. Trainer takes the labels away before the model could add it
    itself. The loss of a batch is weighted by its share of the step's labels. So all batches of a
    step together count once, however the step is split.
    """

    def __init__(self, loss: Loss, model: torch.nn.Module):
        self.loss = loss
        self.model = model
        if hasattr(model, "get_base_model"):
            self.model = model.get_base_model()
        self.asks_for = {}
        # Switch does not look into its configuration.
        if "output_router_logits" in inspect.signature(self.model.forward).parameters:
            self.asks_for = {"output_router_logits": True}
        self._has_warned = False

    def __call__(
        self, outputs: Outputs, labels: torch.Tensor, num_items_in_batch: Number = None
    ) -> torch.Tensor:
        total = self.loss(outputs, labels, num_items_in_batch)
        if not torch.is_grad_enabled():
            return total
        part = _routers(outputs, self.model)
        if part is None:
            self._warn_once()
            return total
        return total + _mean(part * count(labels), labels, num_items_in_batch)

    def _warn_once(self) -> None:
        if not self._has_warned:
            name = self.model.config.model_type
            warn(f"output_router_logits has no effect: {name} gives no loss of its routers here")
        self._has_warned = True


def has_routers(model: torch.nn.Module) -> bool:
    """Whether the configuration, if the model has one, asks for a loss of the routers."""
    if not hasattr(model, "config"):
        return False
    return bool(getattr(model.config.get_text_config(), "output_router_logits", False))


def _routers(outputs: Outputs, model: torch.nn.Module) -> torch.Tensor | None:
    """Returns the part of the routers in the model's own loss, as its forward pass would add it.

    None where it would add nothing.
    """
    parts = []
    for names, coefficients in ROUTERS.items():
        given = [outputs[name] for name in names if outputs.get(name) is not None]
        if given:
            parts.append(sum(given) * _coefficient(coefficients, model))
    if not parts:
        return None
    return sum(parts)


def _coefficient(names: Sequence[str], model: torch.nn.Module) -> float:
    """Returns the first of these values that the model, or else its configuration, has."""
    for place in (model, model.config.get_text_config()):
        for name in names:
            value = getattr(place, name, None)
            if value is not None:
                return value
    raise AttributeError(f"the model has no {names[0]}")


def count(labels: torch.Tensor) -> torch.Tensor:
    """Returns the number of labels that count. -100 does not count, nor does NaN as a rating."""
    return (labels.ne(MISSING) & ~labels.isnan()).sum()


def class_weights(choice: str | None, labels: Labels) -> list[float] | None:
    """Returns rows / (classes * rows of the class) for each class, scikit-learn's "balanced".

    8 and 2 rows give 0.625 and 2.5.
    """
    if choice is None:
        return None
    if labels.kind != SINGLE:
        what = "class weights need one class per row"
        raise Refusal(what, "--class_weights", "leave the flag out")
    classes = len(labels.counts)
    return [labels.rows / (classes * max(rows, 1)) for rows in labels.counts]


def _mean(total: torch.Tensor, labels: torch.Tensor, number: Number) -> torch.Tensor:
    if number is None:
        number = count(labels)
    return total / torch.clamp(torch.as_tensor(number, device=total.device), min=1)


def _cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: torch.Tensor | None
) -> torch.Tensor:
    return functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        weight=weights,
        reduction="sum",
        label_smoothing=smoothing,
        ignore_index=MISSING,
    )


def _binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: torch.Tensor | None
) -> torch.Tensor:
    present = labels.ne(MISSING)
    targets = labels.float() * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return torch.where(present, loss, 0.0).sum()


def _squared_error(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: torch.Tensor | None
) -> torch.Tensor:
    labels = labels.reshape(-1)
    error = logits.reshape(-1) - labels.float()
    return torch.where(labels.isnan(), 0.0, error).square().sum()
