"""Dropout, attention and T5's norm on a CPU, in a half to a third of the time of torch's.

Torch draws 53 bits for every element, one by one; with dropout, attention goes by fp32 even where everything else is in
bf16; without it, bf16 goes by many small products, forward and backward. Its norm is one operation on GPUs only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy
import torch
from torch.nn import functional
from transformers.integrations import sdpa_attention

CHOICES = 2**16  # of a random number of 16 bits: a quarter of what is drawn for four elements
LONGEST = (
    512  # keys: beyond, the weights of all queries would be more than a layer's other activations
)
IN_CACHE = (
    2**20
)  # weights that are computed at once where no gradients need all of them: 2 MB in bf16
MOST = 2**22  # weights of a row: beyond, torch's is as fast without gradients


@contextmanager
def for_cpu() -> Iterator[None]:
    """Within it the functions of OURS stand where modules look torch's and transformers' up; it may be nested."""
    before = {name: getattr(module, name) for name, (module, _) in OURS.items()}
    for name, (module, ours) in OURS.items():
        setattr(module, name, ours)
    try:
        yield
    finally:
        for name, (module, _) in OURS.items():
            setattr(module, name, before[name])


def dropout(
    values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    """Torch's, where it trains on a CPU by other random numbers."""
    if inplace or not training or not 0 < p < 1 or values.device.type != "cpu":
        return THEIRS["dropout"](values, p, training, inplace)
    return _Dropout.apply(values, p)


class Biased(NamedTuple):
    """A mask of attention in two parts: what is added to the scores of all rows alike, [1, heads, queries, keys], and
    where a row may attend, mostly [rows, 1, 1, keys]."""

    bias: torch.Tensor
    allowed: torch.Tensor


def biased_mask(
    bias: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor | Biased:
    """transformers', whose two parts only `attention` adds: [rows, heads, queries, keys] of them in every layer took a
    third of T5's encoder."""
    if mask is not None and mask.dtype == torch.bool:
        return Biased(bias, mask)
    return THEIRS["create_position_bias_mask"](bias.to(key.dtype), mask, is_causal, query, key)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | Biased | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Torch's, by plain matrix products where they are faster."""
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    row, biased = query.shape[1:-1].numel() * key.shape[-2], isinstance(attn_mask, Biased)
    small = key.shape[-2] <= LONGEST if query.requires_grad else row <= MOST
    slow = dropout_p > 0 or ((biased or precision == torch.bfloat16) and small)
    if (
        not slow
        or query.device.type != "cpu"
        or query.shape[:-2] != key.shape[:-2]
        or query.dim() < 3
    ):
        if biased:
            attn_mask = THEIRS["create_position_bias_mask"](*attn_mask, is_causal, query, key)
        theirs = THEIRS["scaled_dot_product_attention"]
        return theirs(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    masks = attn_mask if biased else [] if attn_mask is None else [attn_mask]
    parts = [part.to(precision) for part in (query, key, value)]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast("cpu", enabled=False):
        added = [_added(mask, precision) for mask in masks]
        if dropout_p > 0 or query.requires_grad:
            return _attention(*parts, added, dropout_p, scale)
        return _attention_in_groups(*parts, added, scale, max(1, IN_CACHE // max(1, row)))


def rms_norm(
    values: torch.Tensor,
    normalized_shape: Any,
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """Torch's, in fewer passes over fp32 values whose last dimension has weights."""
    fp32_on_cpu = values.dtype == torch.float32 and values.device.type == "cpu"
    if not fp32_on_cpu or weight is None or weight.dim() > 1 or eps is None:
        return THEIRS["rms_norm"](values, normalized_shape, weight, eps)
    return (
        _RmsNorm.apply(values, weight, eps)
        if torch.is_grad_enabled()
        else _normed(values, weight, eps)[0]
    )


OURS = {
    "dropout": (functional, dropout),
    "scaled_dot_product_attention": (functional, attention),
    "rms_norm": (functional, rms_norm),
    "create_position_bias_mask": (sdpa_attention, biased_mask),
}
THEIRS = {name: getattr(module, name) for name, (module, _) in OURS.items()}


def _added(mask: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """What a mask adds to the scores: the least number, where it is false or less than that. A query that may attend to
    nothing so attends to all alike; torch gives it zeros. Nobody reads its output."""
    least = torch.finfo(precision).min
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=precision).masked_fill_(~mask, least)
    mask = mask.to(
        precision
    ).contiguous()  # T5's biases lie as [queries, keys, heads]; fp32's least is -inf in bf16
    return mask if mask.requires_grad else mask.clamp(min=least)


def _attention_in_groups(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: list[torch.Tensor],
    scale: float,
    rows: int,
) -> torch.Tensor:
    """So many rows at a time, whose weights stay in the cache between a product, a sum and the softmax."""

    def cut(part: torch.Tensor, start: int) -> torch.Tensor:
        return part[start : start + rows] if part.dim() == query.dim() and len(part) > 1 else part

    groups = [
        [cut(part, start) for part in (query, key, value, *added)]
        for start in range(0, len(query), rows)
    ]
    return torch.cat([_attention(*group[:3], group[3:], 0.0, scale) for group in groups])


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: list[torch.Tensor],
    share: float,
    scale: float,
) -> torch.Tensor:
    scores = (query if scale == 1 else query * scale) @ key.transpose(-1, -2)
    for mask in added:
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
    def forward(
        context: Any, values: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        found, scales = _normed(values, weight, eps)
        context.save_for_backward(values, weight, scales)
        return found

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, weight, scales = context.saved_tensors
        normed, of_normed = values * scales, gradient * weight
        of_weight = (gradient * normed).flatten(0, -2).sum(0)
        along = (of_normed * normed).mean(-1, keepdim=True)
        return of_normed.addcmul_(normed, along, value=-1).mul_(scales), of_weight, None


def _normed(
    values: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    norms = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    scales = norms.square_().div_(len(weight)).add_(eps).rsqrt_()
    return (values * scales).mul_(weight), scales
