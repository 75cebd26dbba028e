"""Defines what happens beside the steps of a training.

Callbacks show a bar, warn of leaps of the loss, and decide when a checkpoint is due; what they know
is restored from a checkpoint.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Any

from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import (
    ExportableState,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from recipes.common.config import step_sizes
from recipes.common.runtime.messages import reason, warn
from recipes.common.tokens.positions import PositionedStream

LEAP = 3.0  # warn where a loss is more than this many times the median of the last losses
UNSHOWN = ("_low", "_high", "cross_entropy")  # ends of the names of scores that the bar leaves out


def outlive_reports(callbacks: Iterable[TrainerCallback]) -> None:
    """Lets a training continue where a service that it reports to fails; it warns once."""
    services = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
    for callback in callbacks:
        if type(callback) not in services:
            continue
        report = Report(services[type(callback)])
        for event in dir(callback):
            if event.startswith("on_"):
                setattr(callback, event, partial(report.pass_on, getattr(callback, event)))


class Report:
    """Passes events on to a service, until the service fails."""

    def __init__(self, name: str):
        self.name = name
        self.failed = False

    def pass_on(self, event: Callable, *args: Any, **options: Any) -> Any:
        """Calls the service's own callback, and returns what it returns."""
        if self.failed:
            return None
        try:
            return event(*args, **options)
        except Exception as error:  # of any service's library
            self.failed = True
            warn(f"{self.name} gets no more reports: {reason(error)}; the training continues")
            return None


class Progress(ProgressCallback):
    """Shows one bar, and one short line per evaluation.

    Everything else is in trainer_state.json and the plots.
    """

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **options: Any,
    ) -> None:
        """Shows the loss at the bar's end and writes a line for each evaluation."""
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)
        names = [name for name in logs if _is_shown(name)]
        scores = [f"{name.removeprefix('eval_')} {logs[name]:.4f}" for name in names[:3]]
        if scores:
            place = f"step {state.global_step:,}, epoch {state.epoch:.2f}"
            self.training_bar.write(f"{place}: validation {', '.join(scores)}")


def _is_shown(name: str) -> bool:
    return name.startswith("eval_") and not name.endswith(UNSHOWN)


class SaveLast(TrainerCallback):
    """Saves the last step of an epoch after the epoch's own evaluation.

    A run that continues from that checkpoint has then missed nothing.
    """

    due = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Puts off the checkpoint of the last step."""
        is_last = float(state.epoch).is_integer() or control.should_training_stop
        if control.should_save and is_last:
            self.due = True
            control.should_save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Requests the checkpoint that was put off."""
        if self.due:
            self.due = False
            control.should_save = True


class BestOfSaved(TrainerCallback):
    """Lets only a checkpoint that is saved be the best one.

    Where evaluations are more frequent than checkpoints, Trainer would name a step that cannot be
    loaded.
    """

    def __init__(self):
        self._best: tuple[float | None, int | None] = (None, 0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Begins with the best checkpoint so far."""
        self._best = (state.best_metric, state.best_global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Keeps the best step: it has a checkpoint now."""
        self._best = (state.best_metric, state.best_global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Takes back a better step that was not saved."""
        self._take_back(args, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Takes back a better step that was not saved."""
        self._take_back(args, state)

    def _take_back(self, args: TrainingArguments, state: TrainerState) -> None:
        if args.save_strategy in ("steps", "epoch"):
            state.best_metric, state.best_global_step = self._best


class ContinueFromCheckpoint(TrainerCallback):
    """Restores from a checkpoint what Trainer does not restore, before the first step."""

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Restores it after Trainer has loaded its own part of the checkpoint."""
        self.trainer.checkpoints.restore_rest()


class LossLeaps(TrainerCallback):
    """Warns where the logged loss is more than three times what it was lately."""

    def __init__(self):
        self._losses: deque[float] = deque(maxlen=10)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **options: Any,
    ) -> None:
        """Compares the loss with the median of the last ten."""
        if "loss" not in logs:
            return
        loss, usual = logs["loss"], math.inf
        if len(self._losses) == self._losses.maxlen:
            usual = statistics.median(self._losses)
        self._losses.append(loss)
        if loss > LEAP * usual:
            what = f"the loss rose from {usual:.3f} to {loss:.3f} at step {state.global_step}"
            fix = "a lower --learning_rate, more --warmup_steps or --max_grad_norm may help"
            warn(f"{what}: {fix}")


class EpochsOfStream(TrainerCallback):
    """Counts each pass over a stream as an epoch. To Trainer an endless stream is one epoch.

    After a pass it evaluates, saves and logs where --eval_strategy, --save_strategy or
    --logging_strategy say "epoch". `steps` is the number of steps of a pass: a fraction where texts
    are packed, None where it is unknown.
    """

    def __init__(self, steps: Fraction | None):
        self.steps = steps
        self._done_at = -1  # the step that ended the last pass

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Sets the epoch that is logged, and requests what is due at its end.

        At the end of the last epoch Trainer does so itself.
        """
        step, last = state.global_step, state.max_steps
        if self.steps is None:
            state.epoch = step / last
            return
        state.epoch = float(step / self.steps)
        is_end = step // self.steps != (step - 1) // self.steps
        if not is_end or step >= last:
            return
        self._done_at = step
        control.should_log |= args.logging_strategy == "epoch"
        control.should_evaluate |= args.eval_strategy == "epoch" and args.eval_delay <= state.epoch
        control.should_save |= args.save_strategy == "epoch"

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Requests nothing twice, where an evaluation ended the training early."""
        if self._done_at == state.global_step:
            control.should_log = control.should_evaluate = control.should_save = False


def epochs_of_stream(stream: PositionedStream, arguments: TrainingArguments) -> EpochsOfStream:
    """Returns the callback that counts the epochs of a stream.

    Warns where something waits for the end of an epoch, and that end is unknown.
    """
    rows = step_sizes.rows_per_batch(arguments)
    steps = stream.steps(rows, arguments.gradient_accumulation_steps)
    waiting = []
    for name in ("eval_strategy", "save_strategy"):
        if getattr(arguments, name) == "epoch":
            waiting.append(f"--{name} epoch")
    if steps is None and waiting:
        late = f"{', '.join(waiting)} waits for the last step"
        earlier = "--eval_strategy steps --save_strategy steps do it earlier"
        warn(f"the length of this stream is unknown: {late}; {earlier}")
    return EpochsOfStream(steps)


def restore(callbacks: Iterable[TrainerCallback], stored: dict[str, Any]) -> None:
    """Restores the states of callbacks, for example how long early stopping has waited.

    Their settings stay those of the flags. Trainer restores both, or nothing, and fails at the next
    save where the checkpoint had no such callback. Raises ValueError where a checkpoint holds a
    state of another kind.
    """
    for callback in callbacks:
        if not isinstance(callback, ExportableState):
            continue
        now, name = callback.state(), type(callback).__name__
        before = stored.setdefault(name, now)
        if isinstance(before, list):  # several of one kind
            continue
        own, found = now["attributes"], before["attributes"]
        known = {key: value for key, value in found.items() if key in own}
        for key, value in known.items():
            if type(value) is not type(own[key]):
                raise ValueError(f"{name} has a state of another kind")
        vars(callback).update(known)
