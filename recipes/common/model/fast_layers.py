"""Replaces layers of transformers by equivalent ones that need fewer operations.

Their weights keep their names in a checkpoint. Compiled models get masks of attention only where
the masks hide something.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import FastGELUActivation, NewGELUActivation

from recipes.common.runtime.messages import note

# Each takes eight operations; torch's own GELU is one.
SLOW_GELUS = (NewGELUActivation, FastGELUActivation)


def replace(model: nn.Module) -> None:
    """Replaces GPT-2's and T5 v1.1's GELU, and norms and feed-forward layers of T5's relatives."""
    for part in model.modules():
        for name, child in part.named_children():
            if type(child) in SLOW_GELUS:
                setattr(part, name, nn.GELU(approximate="tanh"))
            elif _is_feed_forward(child):
                setattr(part, name, FeedForward(child))
            elif type(child).__name__.endswith("T5LayerNorm"):
                setattr(part, name, Norm(child))


def disable_layerdrop(model: nn.Module) -> None:
    """Switches LayerDrop off, which skips layers at random (M2M100, NLLB).

    Each process would skip different layers. But gathering a layer, or adding up its gradients,
    needs all processes.
    """
    dropped = [part for part in model.modules() if getattr(part, "layerdrop", 0)]
    for part in dropped:
        part.layerdrop = 0.0
    if dropped:
        note("LayerDrop is off: several processes would skip different layers")


def leave_out_needless_masks(model: nn.Module) -> None:
    """Lets a compiled causal model make no mask for a batch that comes without one.

    transformers looks at the positions: they show whether texts are packed apart. While
    torch.compile traces, it cannot look at them, and always makes a mask. With a mask, flash
    attention cannot be used.
    """
    for part in model.modules():
        module = sys.modules[type(part).__module__]
        make = getattr(module, "create_causal_mask", None)
        if make is not None and not hasattr(make, "looks_at_positions"):
            module.create_causal_mask = _looking_at_positions(make)


def _looking_at_positions(make: Callable) -> Callable:
    outside = torch.compiler.disable(make)

    @wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        has_mask = options.get("attention_mask") is not None
        if has_mask or options.get("position_ids") is None:
            return make(*arguments, **options)
        return outside(*arguments, **options)

    made.looks_at_positions = True
    return made


def _is_feed_forward(layer: nn.Module) -> bool:
    """Whether the layer is T5's or a relative's, with all weights in one precision.

    NLLB-MoE's layer has the same name but other parts.
    """
    name = type(layer).__name__
    if not name.endswith(("DenseActDense", "DenseGatedActDense")) or not hasattr(layer, "wo"):
        return False
    return len({weight.dtype for weight in layer.parameters()}) == 1


class FeedForward(nn.Module):
    """T5's feed-forward layer without a cast to the weights' precision and back.

    T5 has the cast for int8 weights. Under autocast it only costs time.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.gated = hasattr(layer, "wi_1")
        if isinstance(self.act, nn.ReLU):
            # Nothing else needs its input, which is four times as wide as the states.
            self.act = nn.ReLU(inplace=True)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Maps [..., d_model] to [..., d_model]."""
        if self.gated:
            inner = self.act(self.wi_0(states)) * self.wi_1(states)
        else:
            inner = self.act(self.wi(states))
        return self.wo(self.dropout(inner))


class Norm(nn.Module):
    """T5's norm in one operation instead of six.

    It divides each position by its root mean square (Zhang and Sennrich 2019).
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.weight = layer.weight
        self.variance_epsilon = layer.variance_epsilon

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Maps [..., d_model] to [..., d_model]."""
        states = states.to(self.weight.dtype)
        shape = self.weight.shape
        return functional.rms_norm(states, shape, self.weight, self.variance_epsilon)
