"""Computes how many rows a batch and a step have over all processes, and how many steps an epoch.

Importing this module needs no torch.
"""

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments


def number_of_processes() -> int:
    """Returns how many processes the launcher has started over all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rows_per_batch(arguments: "TrainingArguments") -> int:
    """Returns the rows of a batch over all processes."""
    return arguments.train_batch_size * arguments.world_size


def rows_per_step(rows: int, accumulated: int, processes: int) -> int:
    """Returns the rows of an optimizer step over all processes.

    Each process adds up the gradients of `accumulated` batches of `rows` rows.
    """
    return rows * accumulated * processes


def steps_per_epoch(rows: int, batch: int, accumulated: int) -> int:
    """Returns the optimizer steps of a pass over `rows` rows, in batches of `batch` rows."""
    return math.ceil(math.ceil(rows / batch) / accumulated)
