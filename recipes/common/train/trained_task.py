"""Says what the Trainer needs to know of a task. `report/task.py` has the whole task."""

from collections.abc import Callable
from typing import Any, Protocol

from recipes.common.train.generation import TextGeneration
from recipes.common.train.losses import Loss


class TrainedTask(Protocol):
    """The loss and the metrics of a task."""

    loss: Loss
    compute_metrics: Callable[..., dict[str, float]]
    data_collator: Callable[..., Any]  # rows -> a batch
    reduce_logits: Callable[..., Any] | None  # logits, labels -> what is kept of the logits
    generation: TextGeneration | None
