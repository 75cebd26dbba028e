"""How many rows of a split are used, and how many steps a stream takes."""

import math
from typing import Any

import datasets

from recipes.common.config.flags import Arguments
from recipes.common.runtime.errors import Refusal

LIMITS = {
    "train": "max_train_samples",
    "validation": "max_eval_samples",
    "test": "max_predict_samples",
}


def limit_of(name: str, arguments: Arguments) -> int | None:
    """Returns the flag's limit of a split's rows; refuses less than 1."""
    limit = getattr(arguments, LIMITS[name])
    if limit is not None and limit < 1:
        flag = f"--{LIMITS[name]}"
        raise Refusal(f"{flag} is {limit}", flag, "give a number of at least 1")
    return limit


def cut(split: Any, name: str, arguments: Arguments, account: dict[str, Any]) -> Any:
    """Returns the split, cut to its limit; the account says how many rows were cut."""
    limit = limit_of(name, arguments)
    if limit is None:
        return split
    is_in_memory = isinstance(split, datasets.Dataset)
    if not is_in_memory:
        split = split.take(limit)  # of the Hub's streams nobody has counted all rows
    if account["used"] <= limit:
        return split
    account["skipped"][f"over --{LIMITS[name]}"] = account["used"] - limit
    account["used"] = limit
    return split.select(range(limit)) if is_in_memory else split


def set_steps(training_arguments: Any, rows: int) -> None:
    """Sets --max_steps of a stream by the rows counted and --num_train_epochs: it has no length for
    Trainer."""
    if training_arguments.max_steps <= 0:
        rows_per_batch = training_arguments.train_batch_size * training_arguments.world_size
        batches = math.ceil(rows / rows_per_batch)
        steps = math.ceil(batches / training_arguments.gradient_accumulation_steps)
        training_arguments.max_steps = math.ceil(steps * training_arguments.num_train_epochs)
