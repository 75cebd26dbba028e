"""What flags that have changed since a checkpoint mean for the optimizer and the schedule: the states that those load
from it hold the old settings, too."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

# Flags, and what they set in each group of an optimizer's parameters.
SETTINGS = {"weight_decay": ("weight_decay",), "adam_epsilon": ("eps",)}
SETTINGS |= dict.fromkeys(("adam_beta1", "adam_beta2"), ("betas",))
SETTINGS |= {"learning_rate": ("lr", "initial_lr")}
IMPLEMENTATION = ("fused", "foreach")  # of one method
# Flags that leave an optimizer without states: those in the checkpoint are of other weights.
RESETS = {"optim_args", "freeze_encoder", "lora_rank", "lora_target_modules"}


def of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The settings of each group of parameters as the flags say them, before a checkpoint's states are loaded.

    A schedule has changed `lr` already (a warm-up begins with 0) and keeps the flag's value as `initial_lr`.
    """
    settings = []
    for group in optimizer.param_groups:
        rate = group.get("initial_lr", group["lr"])
        own = {key: value for key, value in group.items() if key != "params"}
        settings.append(own | {"lr": rate, "initial_lr": rate})
    return settings


def begins_anew(optim: str, changed: Mapping[str, Any]) -> bool:
    """Whether the states in a checkpoint are of no use: of another method (not another implementation of the same one),
    or of other weights."""
    was = str(changed.get("optim", optim))
    return was.removesuffix("_fused") != optim.removesuffix("_fused") or not RESETS.isdisjoint(
        changed
    )


def fit(state: dict[str, Any], optimizer: Any) -> None:
    """Says in a loaded state which implementation reads it: torch's fused AdamW goes on where its plain one stopped."""
    for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        group.update({key: own[key] for key in IMPLEMENTATION if key in own})


def renew(optimizer: Any, settings: list[dict[str, Any]], changed: Collection[str]) -> None:
    """Gives the groups of an optimizer that has loaded its states the settings that have changed since."""
    keys = {key for flag in changed for key in SETTINGS.get(flag, ())}
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update({key: own[key] for key in keys & own.keys() if key in group})


def renew_schedule(
    scheduler: Any, optimizer: Any, settings: list[dict[str, Any]], changed: Mapping[str, Any]
) -> None:
    """Sets the learning rate of the next step to what the schedule, as it is now, says; a schedule that follows the
    scores goes on from the rate that it has come to, in proportion."""
    rates = [own["lr"] for own in settings]
    if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        scheduler.base_lrs = rates
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        now = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
    else:
        last = getattr(scheduler, "_last_lr", rates)
        before = changed.get("learning_rate")
        now = (
            [rate * one / before for rate, one in zip(rates, last, strict=True)] if before else last
        )
    scheduler._last_lr = now
    for group, rate in zip(optimizer.param_groups, now, strict=True):
        group["lr"] = rate
