"""Changes TrainingArguments after they were parsed.

No other module writes to them, but `runtime/upstream.py` to a private name (`use_one_gpu`).

Each function is called where the reason for the change becomes known.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from recipes.common.config.defaults import lower_is_better

if TYPE_CHECKING:
    from transformers import TrainingArguments


def report_to(arguments: "TrainingArguments", services: Sequence[str]) -> None:
    """Replaces the names of services by those that transformers knows."""
    arguments.report_to = list(services)


def push_to(arguments: "TrainingArguments", repository: str, token: str | None) -> None:
    """Sets where on the Hub the model is pushed to, and with which token."""
    arguments.hub_model_id = repository
    arguments.hub_token = token


def with_optimizer_settings(
    arguments: "TrainingArguments", settings: Sequence[str]
) -> "TrainingArguments":
    """Returns a copy with other --optim_args."""
    copied = copy.copy(arguments)
    copied.optim_args = ",".join(settings)
    return copied


def predict_nothing(arguments: "TrainingArguments") -> None:
    """Leaves out --do_predict: there is no test data."""
    arguments.do_predict = False


def set_steps(arguments: "TrainingArguments", steps_per_epoch: int | Fraction) -> None:
    """Sets --max_steps of a stream from --num_train_epochs.

    Trainer does not know how long a stream is.
    """
    arguments.max_steps = math.ceil(steps_per_epoch * Fraction(str(arguments.num_train_epochs)))


def judge_by(arguments: "TrainingArguments", metric: str) -> None:
    """Chooses the best model by this metric."""
    arguments.metric_for_best_model = metric
    arguments.greater_is_better = not lower_is_better(metric)


def collect_predictions(arguments: "TrainingArguments") -> None:
    """Lets an evaluation collect more than the loss, where it collects sums over tokens.

    They are as small as the loss.
    """
    arguments.prediction_loss_only = False


def read_batches_apart(arguments: Any) -> None:
    """Lets each process read its own batches of a stream.

    Otherwise accelerate would join batches of different lengths.
    """
    arguments.accelerator_config.dispatch_batches = False


def skip_no_data(arguments: "TrainingArguments") -> None:
    """Lets a resumed training begin with the first row that its stream yields.

    The stream has gone to its position by itself.
    """
    arguments.ignore_data_skip = True


@contextmanager
def every_checkpoint_kept(arguments: "TrainingArguments") -> Iterator[None]:
    """Ignores --save_total_limit in this block: at its end Trainer would remove checkpoints."""
    limit, arguments.save_total_limit = arguments.save_total_limit, None
    try:
        yield
    finally:
        arguments.save_total_limit = limit
