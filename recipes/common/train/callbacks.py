"""What happens beside the steps of a training: the bar, a warning, when a checkpoint is due, what callbacks know."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Any

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import ExportableState, ProgressCallback, TrainerCallback

from recipes.common.runtime.messages import reason, warn
from recipes.common.tokens.positions import PositionedStream

LEAP = 3.0  # a loss so many times the last ones' median is worth a warning


def outlive_reports(callbacks: Iterable[TrainerCallback]) -> None:
    """Lets a training go on where a service fails that it reports to: that is said once."""
    services = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
    for callback in callbacks:
        if type(callback) in services:
            report = Report(services[type(callback)])
            for event in [name for name in dir(callback) if name.startswith("on_")]:
                setattr(callback, event, partial(report.pass_on, getattr(callback, event)))


class Report:
    """Passes what happens on to a service, as long as it takes it."""

    def __init__(self, name: str):
        self.name, self.failed = name, False

    def pass_on(self, event: Callable, *args: Any, **options: Any) -> Any:
        """What the service's own callback returns."""
        if self.failed:
            return None
        try:
            return event(*args, **options)
        except Exception as error:  # of any service's library
            self.failed = True
            warn(f"{self.name} is told nothing more: {reason(error)}; the training goes on")
            return None


class Progress(ProgressCallback):
    """One bar, one short line an evaluation; everything else stands in trainer_state.json and the plots."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict | None = None, **options: Any
    ) -> None:
        """Shows the loss at the bar's end and writes a line for each evaluation."""
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)
        unshown = ("_low", "_high", "cross_entropy")
        scores = {
            name: logs[name]
            for name in logs
            if name.startswith("eval_") and not name.endswith(unshown)
        }
        shown = [f"{name[5:]} {scores[name]:.4f}" for name in list(scores)[:3]]
        if shown:
            self.training_bar.write(
                f"step {state.global_step:,}, epoch {state.epoch:.2f}: validation {', '.join(shown)}"
            )


class SaveLast(TrainerCallback):
    """What the last step of an epoch would save is saved after the epoch's own evaluation: a run that goes on from
    there has missed nothing."""

    due = False

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Puts the saving off."""
        if control.should_save and (
            float(state.epoch).is_integer() or control.should_training_stop
        ):
            self.due, control.should_save = True, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Makes up for it."""
        if self.due:
            self.due, control.should_save = False, True


class BestOfSaved(TrainerCallback):
    """Lets only a checkpoint that is saved be the best one, where evaluations are more frequent than checkpoints:
    Trainer would name a step that nobody can load."""

    def __init__(self):
        self._best: tuple[float | None, int | None] = (None, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Begins with the best checkpoint so far."""
        self._best = (state.best_metric, state.best_global_step)

    def on_save(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """The best one now has a checkpoint."""
        self._best = (state.best_metric, state.best_global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Takes back what was better and was not saved."""
        self._take_back(args, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Takes back what was better and was not saved."""
        self._take_back(args, state)

    def _take_back(self, args: Any, state: Any) -> None:
        if args.save_strategy in ("steps", "epoch"):
            state.best_metric, state.best_global_step = self._best


class TakeUp(TrainerCallback):
    """Lets a training that continues take up what its checkpoint knows, before the first step."""

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Called once Trainer has loaded its own part of the checkpoint."""
        self.trainer.checkpoints.take_up()


class LossLeaps(TrainerCallback):
    """Warns where the logged loss is three times what it was lately."""

    def __init__(self):
        self._losses: deque[float] = deque(maxlen=10)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **options: Any
    ) -> None:
        """Compares with the median of the last ten."""
        if "loss" not in logs:
            return
        usual = (
            statistics.median(self._losses)
            if len(self._losses) == self._losses.maxlen
            else math.inf
        )
        self._losses.append(logs["loss"])
        if logs["loss"] > LEAP * usual:
            fix = "a lower --learning_rate, more --warmup_steps or --max_grad_norm may help"
            warn(
                f"the loss rose from {usual:.3f} to {logs['loss']:.3f} at step {state.global_step}: {fix}"
            )


class EpochsOfStream(TrainerCallback):
    """A stream has no end, and so to Trainer one epoch. Here each pass over its rows is an epoch: counted, and where
    --eval_strategy, --save_strategy or --logging_strategy say so evaluated, saved and logged.

    `steps` is how many steps a pass takes, a fraction where texts are packed; None where nobody knows.
    """

    def __init__(self, steps: Fraction | None):
        self.steps = steps
        self._done_at = -1  # the step that ended a pass last

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """The epoch that is logged, and what is due at its end; at the end of the last one Trainer does it."""
        step, last = state.global_step, state.max_steps
        state.epoch = step / last if self.steps is None else float(step / self.steps)
        if self.steps is None or step >= last or step // self.steps == (step - 1) // self.steps:
            return
        self._done_at = step
        control.should_log |= args.logging_strategy == "epoch"
        control.should_evaluate |= args.eval_strategy == "epoch" and args.eval_delay <= state.epoch
        control.should_save |= args.save_strategy == "epoch"

    def on_epoch_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Nothing twice, where an evaluation ended the training early."""
        if self._done_at == state.global_step:
            control.should_log = control.should_evaluate = control.should_save = False


def epochs_of_stream(stream: PositionedStream, arguments: Any) -> EpochsOfStream:
    """The callback that counts the epochs of a stream; warns where something waits for an end that nobody knows."""
    steps = stream.steps(
        arguments.train_batch_size * arguments.world_size, arguments.gradient_accumulation_steps
    )
    strategies = ("eval_strategy", "save_strategy")
    waiting = [f"--{name} epoch" for name in strategies if getattr(arguments, name) == "epoch"]
    if steps is None and waiting:
        unknown = f"nobody knows where a pass over this stream ends: {', '.join(waiting)} waits for the last step"
        warn(f"{unknown}; --eval_strategy steps --save_strategy steps do it on the way")
    return EpochsOfStream(steps)


def restore(callbacks: Iterable[Any], stored: dict[str, Any]) -> None:
    """Gives the callbacks what those of a checkpoint knew: how long early stopping has waited. Their settings stay the
    flags'. Trainer restores both, or nothing, and fails at the next save where there was no such callback.

    Raises ValueError where a checkpoint holds a state of another kind.
    """
    for callback in callbacks:
        if not isinstance(callback, ExportableState):
            continue
        now, name = callback.state(), type(callback).__name__
        before = stored.setdefault(name, now)
        if isinstance(before, list):  # several of one kind
            continue
        known = {
            key: value for key, value in before["attributes"].items() if key in now["attributes"]
        }
        if any(type(value) is not type(now["attributes"][key]) for key, value in known.items()):
            raise ValueError(f"{name} has a state of another kind")
        vars(callback).update(known)
