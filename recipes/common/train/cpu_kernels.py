"""Computes dropout, attention and T5's norm on a CPU, in a half to a third of torch's time.

Torch draws 53 bits for every element, one by one. With dropout, attention is computed in fp32 even
where everything else is in bf16. Without it, attention in bf16 takes many small products, forward
and backward. Torch's norm is one operation on GPUs only.

They are optional: a Trainer whose `uses_cpu_kernels` is False computes by torch's own functions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy
import torch
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers.integrations import sdpa_attention

CHOICES = 2**16  # values of a random number of 16 bits: one draw of 64 bits serves four elements
# The most keys. With more keys, the attention weights of all queries would take more memory than
# the other activations of a layer.
LONGEST = 512
# Attention weights that are computed at once where no gradients need all of them: 2 MB in bf16.
IN_CACHE = 2**20
MOST = 2**22  # attention weights of a row: with more, torch is as fast without gradients


@contextmanager
def for_cpu() -> Iterator[None]:
    """Replaces functions of torch and transformers by those of REPLACEMENTS inside the context.

    Contexts may be nested.
    """
    before = {}
    for name, (module, ours) in REPLACEMENTS.items():
        before[name] = getattr(module, name)
        setattr(module, name, ours)
    try:
        yield
    finally:
        for name, (module, _) in REPLACEMENTS.items():
            setattr(module, name, before[name])


def dropout(
    values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    """Computes torch's dropout; in training on a CPU with other random numbers."""
    if inplace or not training or not 0 < p < 1 or values.device.type != "cpu":
        return ORIGINALS["dropout"](values, p, training, inplace)
    return _Dropout.apply(values, p)


class SplitMask(NamedTuple):
    """A mask of attention in two parts.

    `bias` is added to the scores of all rows alike: [1, heads, queries, keys]. `allowed` says where
    a row may attend: mostly [rows, 1, 1, keys].
    """

    bias: torch.Tensor
    allowed: torch.Tensor


def biased_mask(
    bias: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor | SplitMask:
    """Returns transformers' mask in two parts, which only `attention` adds.

    Their sum is [rows, heads, queries, keys]. To build it in every layer took a third of the time
    of T5's encoder.
    """
    if mask is not None and mask.dtype == torch.bool:
        return SplitMask(bias, mask)
    return ORIGINALS["create_position_bias_mask"](bias.to(key.dtype), mask, is_causal, query, key)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | SplitMask | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Computes torch's attention, by plain matrix products where they are faster."""
    precision = query.dtype
    if torch.is_autocast_enabled("cpu"):
        precision = torch.get_autocast_dtype("cpu")
    if not _is_faster(query, key, attn_mask, dropout_p, precision):
        if isinstance(attn_mask, SplitMask):
            attn_mask = ORIGINALS["create_position_bias_mask"](*attn_mask, is_causal, query, key)
        theirs = ORIGINALS["scaled_dot_product_attention"]
        return theirs(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if scale is None:
        scale = query.shape[-1] ** -0.5
    parts = [part.to(precision) for part in (query, key, value)]
    with torch.autocast("cpu", enabled=False):
        added = [_added(mask, precision) for mask in _masks(attn_mask)]
        if dropout_p > 0 or query.requires_grad:
            return _attention(*parts, added, dropout_p, scale)
        rows = max(1, IN_CACHE // max(1, _weights_per_row(query, key)))
        return _attention_in_groups(*parts, added, scale, rows)


def _is_faster(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | SplitMask | None,
    dropout_p: float,
    precision: torch.dtype,
) -> bool:
    """Whether plain matrix products are faster than torch's attention, and can compute the same."""
    if query.device.type != "cpu" or query.dim() < 3 or query.shape[:-2] != key.shape[:-2]:
        return False
    if dropout_p > 0:
        return True
    if precision != torch.bfloat16 and not isinstance(mask, SplitMask):
        return False
    if query.requires_grad:
        return key.shape[-2] <= LONGEST
    return _weights_per_row(query, key) <= MOST


def _weights_per_row(query: torch.Tensor, key: torch.Tensor) -> int:
    """Returns the number of attention weights of one row, over all its heads."""
    return query.shape[1:-1].numel() * key.shape[-2]


def _masks(mask: torch.Tensor | SplitMask | None) -> Sequence[torch.Tensor]:
    """Returns the parts of a mask: two, one or none."""
    if mask is None:
        return []
    if isinstance(mask, SplitMask):
        return mask
    return [mask]


def rms_norm(
    values: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """Computes torch's norm, in fewer passes over fp32 values whose last dimension has weights."""
    fp32_on_cpu = values.dtype == torch.float32 and values.device.type == "cpu"
    if not fp32_on_cpu or weight is None or weight.dim() > 1 or eps is None:
        return ORIGINALS["rms_norm"](values, normalized_shape, weight, eps)
    if torch.is_grad_enabled():
        return _RmsNorm.apply(values, weight, eps)
    normed, _ = _normed(values, weight, eps)
    return normed


# Name -> the module where others look the function up, and the function that takes its place.
REPLACEMENTS = {
    "dropout": (functional, dropout),
    "scaled_dot_product_attention": (functional, attention),
    "rms_norm": (functional, rms_norm),
    "create_position_bias_mask": (sdpa_attention, biased_mask),
}
ORIGINALS = {name: getattr(module, name) for name, (module, _) in REPLACEMENTS.items()}


def _added(mask: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """Returns what a mask adds to the scores: the least number where it is false or below that.

    A query that may attend to nothing then attends to all alike; torch gives it zeros. The output
    of such a query is never read.
    """
    least = torch.finfo(precision).min
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=precision).masked_fill_(~mask, least)
    # T5's biases lie in memory as [queries, keys, heads].
    mask = mask.to(precision).contiguous()
    if mask.requires_grad:
        return mask
    return mask.clamp(min=least)  # the least number of fp32 is -inf in bf16


def _attention_in_groups(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: list[torch.Tensor],
    scale: float,
    rows: int,
) -> torch.Tensor:
    """Computes attention for `rows` rows at a time.

    Their weights stay in the cache between a product, a sum and the softmax.
    """

    def cut(part: torch.Tensor, start: int) -> torch.Tensor:
        if part.dim() == query.dim() and len(part) > 1:
            return part[start : start + rows]
        return part

    found = []
    for start in range(0, len(query), rows):
        parts = [cut(part, start) for part in (query, key, value)]
        masks = [cut(mask, start) for mask in added]
        found.append(_attention(*parts, masks, 0.0, scale))
    return torch.cat(found)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: list[torch.Tensor],
    share: float,
    scale: float,
) -> torch.Tensor:
    scores = _scaled(query, scale) @ key.transpose(-1, -2)
    for mask in added:
        scores += mask
    return functional.dropout(scores.softmax(-1), share) @ value


def _scaled(query: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return query
    return query * scale


class _Dropout(torch.autograd.Function):
    """Multiplies each of the values, of any shape, by 0 or by 1 / (1 - share).

    The share that is dropped is exact to 1 in 65,536.
    """

    @staticmethod
    def forward(context: FunctionCtx, values: torch.Tensor, share: float) -> torch.Tensor:
        factors = _factors(values.numel(), share, values.dtype).view(values.shape)
        context.save_for_backward(factors)
        return values * factors

    @staticmethod
    def backward(context: FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (factors,) = context.saved_tensors
        return gradient * factors, None


def _factors(number: int, share: float, precision: torch.dtype) -> torch.Tensor:
    """Returns `number` random factors of dropout.

    The seed is torch's, whose random state checkpoints keep. The numbers are numpy's, which take
    half the time.
    """
    seed = torch.empty((), dtype=torch.int64).random_().item()
    drawn = numpy.random.SFC64(seed).random_raw((number + 3) // 4)  # each holds four choices
    choices = torch.from_numpy(drawn.view(numpy.int16))
    dropped = round(share * CHOICES)
    kept = torch.empty(number, dtype=precision)
    torch.ge(choices[:number], dropped - CHOICES // 2, out=kept)
    return kept.mul_(CHOICES / (CHOICES - dropped))


class _RmsNorm(torch.autograd.Function):
    """Divides values [..., width] by their root mean square, and multiplies by weight [width]."""

    @staticmethod
    def forward(
        context: FunctionCtx, values: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        found, scales = _normed(values, weight, eps)
        context.save_for_backward(values, weight, scales)
        return found

    @staticmethod
    def backward(
        context: FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, weight, scales = context.saved_tensors
        normed = values * scales
        of_normed = gradient * weight
        of_weight = (gradient * normed).flatten(0, -2).sum(0)
        along = (of_normed * normed).mean(-1, keepdim=True)
        return of_normed.addcmul_(normed, along, value=-1).mul_(scales), of_weight, None


def _normed(
    values: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the values of a norm, and what it multiplied its input by before the weight."""
    norms = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    scales = norms.square_().div_(len(weight)).add_(eps).rsqrt_()
    return (values * scales).mul_(weight), scales
