"""Limits the rows of a split that are used, and sets the steps of a stream."""

from typing import TYPE_CHECKING, Any

import datasets

from recipes.common.config import step_sizes, training_settings
from recipes.common.config.flags import Arguments
from recipes.common.runtime.errors import Refusal

if TYPE_CHECKING:
    from transformers import TrainingArguments

LIMITS = {
    "train": "max_train_samples",
    "validation": "max_eval_samples",
    "test": "max_predict_samples",
}


def limit_of(name: str, arguments: Arguments) -> int | None:
    """Returns the limit that a flag sets for a split's rows; refuses less than 1."""
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
        split = split.take(limit)  # the rows of a stream from the Hub are not all counted
    if account["used"] <= limit:
        return split
    account["skipped"][f"over --{LIMITS[name]}"] = account["used"] - limit
    account["used"] = limit
    return split.select(range(limit)) if is_in_memory else split


def set_steps(training_arguments: "TrainingArguments", rows: int) -> None:
    """Sets --max_steps of a stream from its number of rows and --num_train_epochs: Trainer does not
    know its length."""
    if training_arguments.max_steps <= 0:
        batch = step_sizes.rows_per_batch(training_arguments)
        accumulated = training_arguments.gradient_accumulation_steps
        steps = step_sizes.steps_per_epoch(rows, batch, accumulated)
        training_settings.set_steps(training_arguments, steps)
