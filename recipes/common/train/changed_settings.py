"""Applies flags that have changed since a checkpoint to the optimizer and the schedule.

The states that these load from the checkpoint hold the old settings, too.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import TrainingArguments

from recipes.common.runtime import upstream

# Flags, and what they set in each group of an optimizer's parameters.
SETTINGS = {
    "learning_rate": ("lr", "initial_lr"),
    "weight_decay": ("weight_decay",),
    "adam_beta1": ("betas",),
    "adam_beta2": ("betas",),
    "adam_epsilon": ("eps",),
}
IMPLEMENTATION = ("fused", "foreach")  # these settings choose one, the method stays
# Flags that leave an optimizer without states: those in the checkpoint are of other weights.
RESETS = {"optim_args", "freeze_encoder", "lora_rank", "lora_target_modules"}
Settings = list[dict[str, Any]]  # one dict per group of an optimizer's parameters


def of(optimizer: torch.optim.Optimizer) -> Settings:
    """Returns the settings of each group of parameters as the flags say them.

    It is called before a checkpoint's states are loaded. A schedule has changed `lr` already (a
    warm-up begins with 0) and keeps the flag's value as `initial_lr`.
    """
    settings = []
    for group in optimizer.param_groups:
        own = dict(group)
        del own["params"]
        rate = group.get("initial_lr", group["lr"])
        settings.append(own | {"lr": rate, "initial_lr": rate})
    return settings


def of_flags(arguments: TrainingArguments, optimizer: torch.optim.Optimizer) -> Settings:
    """Returns what `of` returns, by the flags alone.

    DeepSpeed loads an optimizer's states before anyone can ask for its settings. Trainer's first
    group of parameters has the weight decay, its second one has none.
    """
    rate = arguments.learning_rate
    settings = []
    for number in range(len(optimizer.param_groups)):
        own = {"lr": rate, "initial_lr": rate, "eps": arguments.adam_epsilon}
        own["betas"] = (arguments.adam_beta1, arguments.adam_beta2)
        own["weight_decay"] = 0.0 if number else arguments.weight_decay
        settings.append(own)
    return settings


def starts_over(optim: str, changed: Mapping[str, Any]) -> bool:
    """Whether the optimizer must start over.

    The states in the checkpoint then belong to another method (fused or not is the same one), or to
    other weights.
    """
    before = str(changed.get("optim", optim))
    if before.removesuffix("_fused") != optim.removesuffix("_fused"):
        return True
    return not RESETS.isdisjoint(changed)


def fit(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Sets the optimizer's implementation (fused or not) in the state that it loads.

    torch's fused AdamW then continues where its plain one stopped.
    """
    for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for key in IMPLEMENTATION:
            if key in own:
                group[key] = own[key]


def renew(optimizer: torch.optim.Optimizer, settings: Settings, changed: Collection[str]) -> None:
    """Gives the groups of an optimizer the settings that have changed since its states were saved.

    It is called after the states are loaded.
    """
    keys = set()
    for flag in changed:
        keys.update(SETTINGS.get(flag, ()))
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        for key in keys & own.keys() & group.keys():
            group[key] = own[key]


def renew_schedule(
    scheduler: LRScheduler,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    changed: Mapping[str, Any],
) -> None:
    """Sets the learning rate of the next step to what the schedule, as it is now, says.

    A schedule that follows the scores continues from the rate that it has come to, in proportion.
    """
    rates = [own["lr"] for own in settings]
    if isinstance(scheduler, LambdaLR):
        scheduler.base_lrs = rates
        now = []
        for rate, factor in zip(rates, scheduler.lr_lambdas, strict=True):
            now.append(rate * factor(scheduler.last_epoch))
    else:
        now = _in_proportion(rates, upstream.last_rates(scheduler) or rates, changed)
    upstream.set_last_rates(scheduler, now)
    for group, rate in zip(optimizer.param_groups, now, strict=True):
        group["lr"] = rate


def _in_proportion(
    rates: list[float], last: list[float], changed: Mapping[str, Any]
) -> list[float]:
    """Returns the last rates, scaled by how much --learning_rate has changed."""
    before = changed.get("learning_rate")
    if not before:
        return last
    scaled = []
    for rate, one in zip(rates, last, strict=True):
        scaled.append(rate * one / before)
    return scaled
