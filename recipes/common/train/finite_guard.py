"""A run whose loss, gradient norm or weights are not finite ends before they are saved, and says which rows the step
had taken."""

import json
import math
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from recipes.common.model.weights import is_finite
from recipes.common.runtime.errors import TrainingFailed

FILE = "not_finite.json"
LOGGED = ("loss", "grad_norm", "eval_loss", "train_loss")
FIX = "lower --learning_rate, set --max_grad_norm, or turn bf16 off; the last checkpoint is intact"


def first_not_finite(logs: dict[str, float]) -> str | None:
    """The name of the first logged number that is not finite."""
    return next((name for name in LOGGED if not math.isfinite(logs.get(name, 0.0))), None)


class Norm:
    """The gradient norm of a step. A GPU has still to compute it: who asks at once lets it stand idle afterwards, until
    the next operations arrive."""

    def __init__(self, value: Any, step: int):
        self.value, self.step = value, step
        self.late = type(value) is torch.Tensor and value.is_cuda
        if self.late:
            self.value = torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def __float__(self) -> float:
        if self.late:
            self.arrived.synchronize()
        return float(self.value)


def weights(model: torch.nn.Module, device: torch.device) -> torch.Tensor:
    """Whether every weight that this process holds is finite, as a bool on the device."""
    return torch.stack([is_finite(weight).to(device) for weight in model.parameters()]).all()


def failure(name: str, value: float | str, step: int, rows: list[int], folder: Path | None) -> TrainingFailed:
    """The error that ends the run; the rows of the step are written into the folder, by the process that has one."""
    path = folder / FILE if folder and rows else None
    if path:
        facts = {"what": name, "value": str(value), "after_step": step, "rows": rows}
        path.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return TrainingFailed(f"{name} is {value}", f"after step {step}" + (f", rows in {path}" if path else ""), FIX)


class FiniteTrainer(transformers.Trainer):
    """transformers.Trainer that ends such a run."""

    order: Any = None  # in which rows are trained on; None: as they come
    _norm: Norm | None = None  # of the gradients, not looked at yet

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Stops the run at the first logged loss or gradient norm that is not finite."""
        self._look_at_norm()
        skipped = {"grad_norm"} if self.args.fp16 else set()  # the scaler skips such a step
        if name := first_not_finite({key: logs[key] for key in logs.keys() - skipped}):
            raise self._not_finite(name, logs[name])
        super().log(logs, start_time)

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        """The loss; DeepSpeed takes its optimizer step with the backward pass, so that the loss is looked at before."""
        output = super().compute_loss(*args, **options)
        loss = output[0] if isinstance(output, tuple) else output
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
            self._norm = Norm(grad_norm, self.state.global_step)
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
        return failure(name, value, step, self._rows_of_step(step), folder)

    def _rows_of_step(self, step: int) -> list[int]:
        """The row ids (of packed texts the blocks) of a step."""
        rows = self.order.rows_of_step(step) if self.order is not None else []
        named = "row_id" in (getattr(self.train_dataset, "column_names", None) or [])
        return [int(self.train_dataset[row]["row_id"]) if named else row for row in rows]

    def _check_finite(self) -> None:
        """Refuses to publish a model whose loss or weights, on any process, are not finite."""
        self._look_at_norm()
        found = torch.stack([self._tr_loss.isfinite().all(), weights(self.model, self.args.device)])
        loss, weight = self.accelerator.gather(found).reshape(-1, 2).all(dim=0).tolist()
        if not loss:
            raise self._not_finite("the training loss", self._tr_loss.item())
        if not weight:
            raise self._not_finite("a weight", "not finite")
