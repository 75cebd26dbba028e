"""The one loss: summed over the rows (or tokens) of the whole optimizer step, divided once by their number.

Trainer's default divides BERT's and T5's loss by each micro-batch instead, so that loss and gradients come out
multiplied by accumulation steps and processes (transformers issue 47688).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional

from recipes.common.data.labels import MISSING, MULTI, REGRESSION, SINGLE, Labels
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, warn

Loss = Callable[..., torch.Tensor]
# What a mixture of experts answers beside its logits, and before them.
ROUTERS = ("aux_loss", "encoder_z_loss", "encoder_aux_loss", "decoder_z_loss", "decoder_aux_loss")


def for_problem(
    kind: str, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Loss:
    """A compute_loss_func for Trainer: (outputs, labels, num_items_in_batch) -> scalar.

    Cross entropy for classes, binary cross entropy for several labels, squared error for regression. With class
    weights the mean stays over rows, not over weights: balanced weights average to one over the training data. What
    `is_scored` the metrics compute as well, from all rows at once.
    """
    if kind == REGRESSION and label_smoothing:
        note("--label_smoothing_factor has no effect on numbers")
    summed = {REGRESSION: _squared_error, MULTI: _binary_cross_entropy}.get(kind, _cross_entropy)

    def compute_loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        logits = outputs["logits"].float()
        weights = (
            None if class_weights is None else torch.tensor(class_weights, device=logits.device)
        )
        return _mean(summed(logits, labels, label_smoothing, weights), labels, num_items_in_batch)

    compute_loss.is_scored = class_weights is None and not label_smoothing
    return compute_loss


@dataclass(frozen=True)
class TokenLoss:
    """A compute_loss_func for Trainer: cross entropy over tokens; with `shift` each predicts the next one.

    Logits are [rows, length, words], or the scores [positions, 2] of heads.Head, which smooths by itself.
    """

    label_smoothing: float = 0.0
    shift: bool = False
    is_scored: ClassVar[bool] = True  # by language_modeling.sums, without the smoothing

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        logits, labels = outputs["logits"], self.predicted(labels)
        if logits.dim() == 3:
            dense = for_problem(SINGLE, self.label_smoothing)
            return dense({"logits": logits[:, : labels.shape[1]]}, labels, num_items_in_batch)
        return _mean(
            logits[:, 0].float().sum(), labels, num_items_in_batch
        )  # FSDP2 hands 16 bits on

    def predicted(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels [rows, length] by the positions that predict them: with `shift` one less."""
        return labels[:, 1:] if self.shift else labels


class WithRouters:
    """Another loss and, where something is learned, what a mixture of experts adds to its own loss: how evenly its
    routers spread the tokens (`aux_loss`, Switch's `z_loss`), times the coefficient of its configuration.

    Trainer takes the labels away before the model could add it. A batch's part weighs as much as its labels among those
    of the step: however the step is split, all parts together count once.
    """

    def __init__(self, loss: Loss, model: torch.nn.Module):
        self.loss = loss
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        forward = inspect.signature(self.model.forward).parameters
        # Switch does not look into its configuration.
        self.asks_for = {"output_router_logits": True} if "output_router_logits" in forward else {}
        self._told = False

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        total = self.loss(outputs, labels, num_items_in_batch)
        if not torch.is_grad_enabled():
            return total
        part = _routers(outputs, self.model)
        if part is None:
            self._tell()
            return total
        return total + _mean(part * count(labels), labels, num_items_in_batch)

    def _tell(self) -> None:
        if not self._told:
            name = self.model.config.model_type
            warn(f"output_router_logits has no effect: {name} gives no loss of its routers here")
        self._told = True


def has_routers(model: torch.nn.Module) -> bool:
    """Whether the configuration, if the model has one, asks for a loss of the routers."""
    config = model.config.get_text_config() if hasattr(model, "config") else None
    return bool(getattr(config, "output_router_logits", False))


def _routers(outputs: Any, model: torch.nn.Module) -> torch.Tensor | None:
    """The part of the routers in the model's own loss, as its forward pass would add it; None where it adds none."""
    found = {name: outputs.get(name) for name in ROUTERS if outputs.get(name) is not None}
    config = model.config.get_text_config()
    sums = {
        "aux_loss": ("router_aux_loss_coef", "aux_loss_coef"),
        "z_loss": ("router_z_loss_coef",),
    }
    parts = []
    for kind, names in sums.items():
        own = [value for name, value in found.items() if name.endswith(kind)]
        known = [getattr(place, name, None) for place in (model, config) for name in names]
        if own:
            parts.append(sum(own) * next(value for value in known if value is not None))
    return sum(parts) if parts else None


def count(labels: torch.Tensor) -> torch.Tensor:
    """The number of labels that count: neither -100 nor, among ratings, not a number."""
    return (labels.ne(MISSING) & ~labels.isnan()).sum()


def class_weights(choice: str | None, labels: Labels) -> list[float] | None:
    """rows / (classes * rows of the class), scikit-learn's "balanced": 8 and 2 rows give 0.625 and 2.5."""
    if choice is None:
        return None
    if labels.kind != SINGLE:
        raise Refusal("class weights need one class a row", "--class_weights", "leave the flag out")
    return [labels.rows / (len(labels.counts) * max(count, 1)) for count in labels.counts]


def _mean(total: torch.Tensor, labels: torch.Tensor, number: Any) -> torch.Tensor:
    number = count(labels) if number is None else number
    return total / torch.clamp(torch.as_tensor(number, device=total.device), min=1)


def _cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: Any
) -> torch.Tensor:
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    return functional.cross_entropy(
        logits,
        labels,
        weight=weights,
        reduction="sum",
        label_smoothing=smoothing,
        ignore_index=MISSING,
    )


def _binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: Any
) -> torch.Tensor:
    present = labels.ne(MISSING)
    targets = labels.float() * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return torch.where(present, loss, 0.0).sum()


def _squared_error(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, weights: Any
) -> torch.Tensor:
    error = logits.reshape(-1) - labels.reshape(-1).float()
    return torch.where(labels.reshape(-1).isnan(), 0.0, error).square().sum()
