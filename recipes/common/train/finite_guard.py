"""Ends a run whose loss, gradient norm or weights are not finite.

Nothing is saved then, and the rows of the step are named.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from recipes.common.model.weights import is_finite
from recipes.common.runtime.errors import TrainingFailed

FILE = "not_finite.json"
LOGGED = ("loss", "grad_norm", "eval_loss", "train_loss")
FIX = "lower --learning_rate, set --max_grad_norm, or turn bf16 off; the last checkpoint is intact"


class Norm:
    """Holds the gradient norm of one step.

    A GPU computes it later than Python asks for it. To read it at once would leave the GPU idle
    until it has received its next operations. So the number is copied aside and read one step
    later.
    """

    def __init__(self, value: Any, step: int):
        self.value, self.step = value, step
        self.late = type(value) is torch.Tensor and value.is_cuda
        if self.late:
            self.value = torch.empty_like(value, device="cpu", pin_memory=True)
            self.value.copy_(value, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def __float__(self) -> float:
        if self.late:
            self.arrived.synchronize()
        return float(self.value)


class FiniteGuard(TrainerCallback):
    """Raises TrainingFailed at the first number of a training that is not finite.

    `rows_of_step` names the rows of a step; they are written into `folder`, which only one process
    has.
    """

    def __init__(self, rows_of_step: Callable[[int], list[int]], folder: Path | None):
        self.rows_of_step, self.folder = rows_of_step, folder
        self.norm: Norm | None = None

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **options: Any
    ) -> None:
        """Checks the logged losses and the gradient norm.

        The scaler of fp16 skips a step whose norm is infinite.
        """
        self.check_norm()
        for name in LOGGED:
            skipped = name == "grad_norm" and args.fp16
            if not skipped and not math.isfinite(logs.get(name, 0.0)):
                raise self.failure(name, logs[name], state.global_step)

    def watch_norm(self, norm: torch.Tensor | float, step: int) -> None:
        """Checks the gradient norm before the optimizer uses it; on a GPU one step later."""
        self.norm = Norm(norm, step)
        if not self.norm.late:
            self.check_norm()

    def check_norm(self) -> None:
        """Checks a norm that has not been read yet."""
        norm, self.norm = self.norm, None
        if norm is not None and not math.isfinite(norm):
            raise self.failure("the gradient norm", float(norm), norm.step)

    def check_loss(self, loss: torch.Tensor, step: int) -> None:
        """Checks the loss of a batch."""
        if not loss.isfinite():
            raise self.failure("the loss", float(loss), step)

    def check_model(
        self, loss: torch.Tensor, model: torch.nn.Module, accelerator: Any, step: int
    ) -> None:
        """Checks the summed loss and all weights, on every process; to be called by all of them."""
        self.check_norm()
        own = torch.stack([loss.isfinite().all(), _are_finite(model, loss.device)])
        loss_is_finite, weights_are = accelerator.gather(own).reshape(-1, 2).all(dim=0).tolist()
        if not loss_is_finite:
            raise self.failure("the training loss", loss.item(), step)
        if not weights_are:
            raise self.failure("a weight", "not finite", step)

    def failure(self, name: str, value: float | str, step: int) -> TrainingFailed:
        """Returns the error that ends the run, and writes the rows of the step."""
        rows = self.rows_of_step(step)
        where = f"after step {step}"
        if self.folder and rows:
            path = self.folder / FILE
            facts = {"what": name, "value": str(value), "after_step": step, "rows": rows}
            path.write_text(json.dumps(facts, indent=2), encoding="utf-8")
            where += f", rows in {path}"
        return TrainingFailed(f"{name} is {value}", where, FIX)


def _are_finite(model: torch.nn.Module, device: torch.device) -> torch.Tensor:
    """Whether every weight that this process holds is finite, as a bool on the device."""
    finite = [is_finite(weight).to(device) for weight in model.parameters()]
    return torch.stack(finite).all()
