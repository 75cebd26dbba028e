"""Layers that compute the same as transformers' in fewer operations, under the same names in a checkpoint; in compiled
models masks of attention only where they hide something."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import FastGELUActivation, NewGELUActivation

from recipes.common.runtime.messages import note


def replace(model: nn.Module) -> None:
    """Put them where transformers' are: GPT-2's and T5 v1.1's GELU, norms and feed-forward layers of T5 and its
    relatives."""
    for part in model.modules():
        for name, child in part.named_children():
            if type(child) in (
                NewGELUActivation,
                FastGELUActivation,
            ):  # eight operations; torch's own is one
                setattr(part, name, nn.GELU(approximate="tanh"))
            elif _is_feed_forward(child):
                setattr(part, name, FeedForward(child))
            elif type(child).__name__.endswith("T5LayerNorm"):
                setattr(part, name, Norm(child))


def keep_all(model: nn.Module) -> None:
    """No layer is left out at random (LayerDrop, as in M2M100 and NLLB): each process would leave out others, while all
    together gather, or add up the gradients of, one layer at a time."""
    dropped = [part for part in model.modules() if getattr(part, "layerdrop", 0)]
    for part in dropped:
        part.layerdrop = 0.0
    if dropped:
        note("several processes learn with all layers: LayerDrop is off")


def leave_out_needless_masks(model: nn.Module) -> None:
    """Where a compiled causal model's batch comes without a mask, its attention gets none.

    By positions transformers 5.23 sees that texts are packed apart; while torch.compile traces it cannot look at them,
    and makes a mask in any case: flash attention takes none.
    """
    for module in {sys.modules[type(part).__module__] for part in model.modules()}:
        make = getattr(module, "create_causal_mask", None)
        if make is not None and not hasattr(make, "__wrapped__"):
            module.create_causal_mask = _looking_at_positions(make)


def _looking_at_positions(make: Callable) -> Callable:
    outside = torch.compiler.disable(make)

    @wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        looks = options.get("attention_mask") is None and options.get("position_ids") is not None
        return (outside if looks else make)(*arguments, **options)

    return made


def _is_feed_forward(layer: nn.Module) -> bool:
    """T5's or a relative's (NLLB-MoE's has other parts), in one precision."""
    named = type(layer).__name__.endswith(("DenseActDense", "DenseGatedActDense")) and hasattr(
        layer, "wo"
    )
    return named and len({weight.dtype for weight in layer.parameters()}) == 1


class FeedForward(nn.Module):
    """T5's, without a cast to the weights' precision and back, which autocast makes of what is there for int8."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.gated = hasattr(layer, "wi_1")
        if isinstance(
            self.act, nn.ReLU
        ):  # nothing else needs what goes in: a fourfold width is not written again
            self.act = nn.ReLU(inplace=True)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., d_model] -> [..., d_model]."""
        inner = (
            self.act(self.wi_0(states)) * self.wi_1(states)
            if self.gated
            else self.act(self.wi(states))
        )
        return self.wo(self.dropout(inner))


class Norm(nn.Module):
    """T5's: each position divided by its root mean square (Zhang and Sennrich 2019), in one operation, not six."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.weight, self.variance_epsilon = layer.weight, layer.variance_epsilon

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., d_model] -> [..., d_model]."""
        return functional.rms_norm(
            states.to(self.weight.dtype), self.weight.shape, self.weight, self.variance_epsilon
        )
