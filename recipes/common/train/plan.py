"""Computes how long a training is: rows per step, batches per epoch, optimizer steps."""

import math
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from recipes.common.config import step_sizes


@dataclass(frozen=True)
class Plan:
    """Holds the sizes of a training on all its processes."""

    arguments: TrainingArguments
    dataset: Any
    rows: int  # per batch and process
    # Batches per epoch and process, where batches are filled by tokens.
    token_batches: int | None = None

    @property
    def rows_per_step(self) -> int:
        """Returns the rows of one optimizer step; batches, where batches are filled by tokens."""
        rows = self.rows if self.token_batches is None else 1
        return step_sizes.rows_per_step(
            rows, self.arguments.gradient_accumulation_steps, self.arguments.world_size
        )

    @property
    def batches(self) -> int | None:
        """Returns the batches per epoch on each process; None for a stream, which has no length."""
        if not hasattr(self.dataset, "__len__"):
            return None
        if self.token_batches is not None:
            return self.token_batches
        rows = step_sizes.rows_per_batch(self.arguments)
        rounded = math.floor if self.arguments.dataloader_drop_last else math.ceil
        return rounded(len(self.dataset) / rows)

    @property
    def steps(self) -> int:
        """Returns the optimizer steps of the whole training."""
        if self.arguments.max_steps > 0 or self.batches is None:
            return self.arguments.max_steps
        steps_per_epoch = math.ceil(self.batches / self.arguments.gradient_accumulation_steps)
        return math.ceil(steps_per_epoch * self.arguments.num_train_epochs)
