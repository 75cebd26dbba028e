"""A run whose loss, gradient norm or weights are not finite ends before they are saved, and says which rows the step
had taken."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from recipes.common.errors import TrainingFailed

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
    return torch.stack([_own(weight).isfinite().all().to(device) for weight in model.parameters()]).all()


def _own(weight: torch.Tensor) -> torch.Tensor:
    """The part of a weight that this process holds: under ZeRO-3 and FSDP others hold the rest."""
    part = getattr(weight, "ds_tensor", weight)
    return part.to_local() if isinstance(part, DTensor) else part


def failure(name: str, value: float | str, step: int, rows: list[int], folder: Path | None) -> TrainingFailed:
    """The error that ends the run; the rows of the step are written into the folder, by the process that has one."""
    path = folder / FILE if folder and rows else None
    if path:
        facts = {"what": name, "value": str(value), "after_step": step, "rows": rows}
        path.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return TrainingFailed(f"{name} is {value}", f"after step {step}" + (f", rows in {path}" if path else ""), FIX)
