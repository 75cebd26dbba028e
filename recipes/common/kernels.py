"""Dropout, attention and T5's norm on a CPU, in a half to a third of the time of torch's.

Torch draws 53 bits for every element, one by one; with dropout, attention goes by fp32 even where everything else is in
bf16; without it, bf16 goes by many small products, forward and backward. Its norm is one operation on GPUs only.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy
import torch
from torch.nn import functional
from transformers.integrations import sdpa_attention

CHOICES = 2**16  # of a random number of 16 bits: a quarter of what is drawn for four elements
LONGEST = 512  # keys: beyond, the weights of all queries would be more than a layer's other activations
IN_CACHE = 2**20  # weights that are computed at once where no gradients need all of them: 2 MB in bf16
MOST = 2**22  # weights of a row: beyond, torch's is as fast without gradients


@contextmanager
def for_cpu() -> Iterator[None]:
    """Within it the functions of OURS stand where modules look torch's and transformers' up."""
    for name, (module, ours) in OURS.items():
        setattr(module, name, ours)
    try:
        yield
    finally:
        for name, (module, _) in OURS.items():
            setattr(module, name, THEIRS[name])
        biased_mask.made.clear()


def dropout(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Torch's, where it trains on a CPU by other random numbers."""
    if inplace or not training or not 0 < p < 1 or values.device.type != "cpu":
        return THEIRS["dropout"](values, p, training, inplace)
    return _Dropout.apply(values, p)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Torch's, by plain matrix products where they are faster."""
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    row = query.shape[1:-1].numel() * key.shape[-2]
    small = key.shape[-2] <= LONGEST if query.requires_grad else row <= MOST
    slow = dropout_p > 0 or (precision == torch.bfloat16 and small)
    if not slow or query.device.type != "cpu" or query.shape[:-2] != key.shape[:-2] or query.dim() < 3:
        theirs = THEIRS["scaled_dot_product_attention"]
        return theirs(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    parts = [part.to(precision) for part in (query, key, value)]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast("cpu", enabled=False):
        if dropout_p > 0 or query.requires_grad:
            return _attention(*parts, attn_mask, dropout_p, scale)
        return _attention_in_groups(*parts, attn_mask, scale, max(1, IN_CACHE // max(1, row)))


def rms_norm(
    values: torch.Tensor, normalized_shape: Any, weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """Torch's, in fewer passes over fp32 values whose last dimension has weights."""
    fp32_on_cpu = values.dtype == torch.float32 and values.device.type == "cpu"
    if not fp32_on_cpu or weight is None or weight.dim() > 1 or eps is None:
        return THEIRS["rms_norm"](values, normalized_shape, weight, eps)
    return _RmsNorm.apply(values, weight, eps)


class _BiasedMasks:
    """transformers', made once for all layers of a stack, which share mask and bias, where nothing is learned.

    [rows, heads, queries, keys] for every layer took a third of T5's encoder: 90 ms of 290 for 16 texts of 400 tokens.
    """

    def __init__(self) -> None:
        self.made: deque = deque(maxlen=2)  # a decoder layer has one over its own tokens, one over the texts

    def __call__(
        self, bias: torch.Tensor, mask: torch.Tensor | None, is_causal: bool, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        """The mask to add to the scores: bias where a query may attend, the least number elsewhere."""
        known = [made for of_bias, of_mask, made in self.made if of_bias is bias and of_mask is mask]
        if known:
            return known[0]
        made = THEIRS["create_position_bias_mask"](bias.to(key.dtype), mask, is_causal, query, key)
        if not made.requires_grad:
            self.made.append((bias, mask, made))
        return made


biased_mask = _BiasedMasks()
OURS = {
    "dropout": (functional, dropout),
    "scaled_dot_product_attention": (functional, attention),
    "rms_norm": (functional, rms_norm),
    "create_position_bias_mask": (sdpa_attention, biased_mask),
}
THEIRS = {name: getattr(module, name) for name, (module, _) in OURS.items()}


def _attention_in_groups(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float, rows: int
) -> torch.Tensor:
    """So many rows at a time, whose weights stay in the cache between a product, a sum and the softmax."""
    of_rows = mask is not None and mask.dim() == query.dim() and len(mask) > 1
    masks = mask.split(rows) if of_rows else repeat(mask)
    groups = zip(query.split(rows), key.split(rows), value.split(rows), masks, strict=False)
    return torch.cat([_attention(*group, 0.0, scale) for group in groups])


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, share: float, scale: float
) -> torch.Tensor:
    """A query that may attend to nothing attends to all alike; torch gives it zeros. Nobody reads its output."""
    scores = (query * scale) @ key.transpose(-1, -2)
    least = torch.finfo(scores.dtype).min
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, least)
    elif mask is not None and mask.dtype != scores.dtype and not mask.requires_grad:
        mask = mask.clamp(min=least)  # fp32's least number is minus infinity in bf16
    if mask is not None:
        scores += mask
    return functional.dropout(scores.softmax(-1), share) @ value


class _Dropout(torch.autograd.Function):
    """(values of any shape, share that is dropped, to 1 in 65,536) -> values, each times 0 or times 1 / (1 - share)."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, share: float) -> torch.Tensor:
        factors = _factors(values.numel(), share, values.dtype).view(values.shape)
        context.save_for_backward(factors)
        return values * factors

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (factors,) = context.saved_tensors
        return gradient * factors, None


def _factors(number: int, share: float, precision: torch.dtype) -> torch.Tensor:
    """The seed is torch's, whose random state checkpoints keep; the numbers of a step are numpy's, at half the time."""
    seed = torch.empty((), dtype=torch.int64).random_().item()
    words = torch.from_numpy(numpy.random.SFC64(seed).random_raw(-(-number // 4)).view(numpy.int16))
    dropped = round(share * CHOICES)
    kept = torch.empty(number, dtype=precision)
    torch.ge(words[:number], dropped - CHOICES // 2, out=kept)
    return kept.mul_(CHOICES / (CHOICES - dropped))


class _RmsNorm(torch.autograd.Function):
    """(values [..., width], weight [width], eps) -> values divided by their root mean square, times the weight."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        norms = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scales = norms.square_().div_(len(weight)).add_(eps).rsqrt_()
        context.save_for_backward(values, weight, scales)
        return (values * scales).mul_(weight)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, weight, scales = context.saved_tensors
        normed, of_normed = values * scales, gradient * weight
        of_weight = (gradient * normed).flatten(0, -2).sum(0)
        along = (of_normed * normed).mean(-1, keepdim=True)
        return of_normed.addcmul_(normed, along, value=-1).mul_(scales), of_weight, None
