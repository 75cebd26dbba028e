"""Dropout, attention and norms on a CPU: torch's in all but the random numbers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import T5Config, T5ForConditionalGeneration
from transformers.integrations import sdpa_attention

from recipes.common.train import cpu_kernels

TORCHS = functional.dropout
TORCHS_NORM = functional.rms_norm
TORCHS_ATTENTION = functional.scaled_dot_product_attention
SHAPE = (2, 3, 5, 4)  # rows, heads, length, width
MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "padding": {
        "attn_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()[:, None, None]
    },
    "added": {"attn_mask": torch.linspace(-1, 1, 25).reshape(5, 5)},
    "scale": {"scale": 0.3},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def dropped(values, **options):
    with cpu_kernels.for_cpu():
        return functional.dropout(values, **options)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_becomes_zero_and_the_rest_grows_so_that_the_mean_stays(share, precision):
    found = dropped(torch.ones(1000, 1000, dtype=precision), p=share)
    assert found.dtype == precision
    assert found.eq(0).float().mean() == pytest.approx(share, abs=0.002)
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - share)], rel=0.01)
    assert found.float().mean() == pytest.approx(1, abs=0.005)


def test_gradients_are_dropped_where_values_are():
    values = torch.full((50, 7), 3.0, requires_grad=True)
    found = dropped(values, p=0.3)
    found.sum().backward()
    assert 0 < found.eq(0).sum() < 350
    torch.testing.assert_close(values.grad, found.detach() / 3)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)])
def test_any_shape_keeps_it(shape):
    assert dropped(torch.ones(shape), p=0.5).shape == shape


def test_neighbours_are_dropped_independently():
    zero = dropped(torch.ones(1_000_000), p=0.5).eq(0).reshape(-1, 4)
    patterns = (zero * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16)
    assert patterns.float().div(250_000 / 16).tolist() == pytest.approx([1] * 16, abs=0.05)


def test_the_mask_follows_from_torch_s_random_state():
    first = dropped(torch.ones(100), p=0.5)
    assert not torch.equal(dropped(torch.ones(100), p=0.5), first)
    torch.manual_seed(0)
    assert torch.equal(dropped(torch.ones(100), p=0.5), first)


def test_a_module_s_activations_are_computed_again_with_the_same_mask():
    layer, values = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), torch.randn(4, 8)
    gradients = []
    for run in (layer, lambda inputs: checkpoint(layer, inputs, use_reentrant=False)):
        torch.manual_seed(1)
        with cpu_kernels.for_cpu():
            run(values).sum().backward()
        gradients.append(layer[0].weight.grad.clone())
        layer.zero_grad()
    assert gradients[0].count_nonzero() > 0
    assert torch.equal(*gradients)


@pytest.mark.parametrize("options", [{"p": 0.0}, {"p": 0.5, "training": False}, {"p": 1.0}])
def test_what_needs_no_random_number_draws_none(options):
    state = torch.get_rng_state()
    assert torch.equal(dropped(torch.ones(9), **options), TORCHS(torch.ones(9), **options))
    assert options["p"] == 1.0 or torch.equal(torch.get_rng_state(), state)


def test_it_holds_within_only():
    with pytest.raises(ValueError, match="stop"), cpu_kernels.for_cpu():
        assert functional.dropout is not TORCHS
        assert functional.scaled_dot_product_attention is not TORCHS_ATTENTION
        raise ValueError("stop")
    assert functional.dropout is TORCHS
    assert functional.scaled_dot_product_attention is TORCHS_ATTENTION
    assert (
        sdpa_attention.create_position_bias_mask
        is cpu_kernels.ORIGINALS["create_position_bias_mask"]
    )


def attended(function, precision, **options):
    """The result and the gradients of query, key and value, in fp32."""
    torch.manual_seed(0)
    parts = [torch.randn(SHAPE).to(precision).requires_grad_() for _ in range(3)]
    found = function(*parts, **options)
    assert found.dtype == precision
    found.float().square().sum().backward()
    return [found.detach().float(), *(part.grad.float() for part in parts)]


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_attention_in_bf16_is_torch_s_in_fp32_but_for_rounding(options):
    with cpu_kernels.for_cpu():
        found = attended(functional.scaled_dot_product_attention, torch.bfloat16, **options)
    for part, wanted in zip(
        found, attended(TORCHS_ATTENTION, torch.float32, **options), strict=True
    ):
        torch.testing.assert_close(part, wanted, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_attention_is_torch_s_where_hardly_a_weight_is_dropped(options):
    """A share below 1 / 131,072 rounds to nothing."""
    with cpu_kernels.for_cpu():
        found = attended(
            functional.scaled_dot_product_attention, torch.float32, dropout_p=1e-6, **options
        )
    for part, wanted in zip(
        found, attended(TORCHS_ATTENTION, torch.float32, **options), strict=True
    ):
        torch.testing.assert_close(part, wanted)


def test_attention_drops_a_share_of_its_weights():
    query, value = torch.zeros(1, 1, 300, 4), torch.eye(300)[None, None]
    with cpu_kernels.for_cpu():
        weights = functional.scaled_dot_product_attention(query, query, value, dropout_p=0.2)
    assert weights.eq(0).float().mean() == pytest.approx(0.2, abs=0.005)
    assert weights.unique().tolist() == pytest.approx([0, 1 / 300 / 0.8], rel=1e-4)


def test_under_autocast_attention_is_in_its_precision():
    query = torch.randn(SHAPE, requires_grad=True)
    with cpu_kernels.for_cpu(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert (
            functional.scaled_dot_product_attention(query, query, query, dropout_p=0.1).dtype
            == torch.bfloat16
        )


@pytest.mark.parametrize(
    "nothing",
    [
        torch.zeros(5, 5, dtype=torch.bool),
        torch.full((5, 5), torch.finfo().min),
        torch.full((5, 5), -torch.inf),
        torch.full((5, 5), -torch.inf, dtype=torch.bfloat16),
    ],
    ids=["bool", "fp32", "infinity", "bf16"],
)
def test_a_query_without_a_key_is_finite(nothing):
    with cpu_kernels.for_cpu():
        found = attended(functional.scaled_dot_product_attention, torch.bfloat16, attn_mask=nothing)
    assert all(part.isfinite().all() for part in found)


@pytest.mark.parametrize("queries, keys", [(1, 700), (1, 5), (5, 5)])
def test_attention_without_gradients_is_torch_s_but_for_rounding(queries, keys):
    query, key, value = (
        torch.randn(2, 3, queries, 4),
        torch.randn(2, 3, keys, 4),
        torch.randn(2, 3, keys, 4),
    )
    wanted = TORCHS_ATTENTION(query, key, value)
    with cpu_kernels.for_cpu(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.03)
    assert not torch.equal(
        found, TORCHS_ATTENTION(*(part.bfloat16() for part in (query, key, value)))
    )


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_attention_in_groups_of_rows_is_that_of_all(options, monkeypatch):
    """Two rows of 3 heads x 5 x 5 weights, one at a time and both at once."""
    query, key, value = (torch.randn(SHAPE, dtype=torch.bfloat16) for _ in range(3))
    found = []
    for at_once in (3 * 5 * 5, 2 * 3 * 5 * 5):
        monkeypatch.setattr(cpu_kernels, "IN_CACHE", at_once)
        with cpu_kernels.for_cpu():
            found.append(functional.scaled_dot_product_attention(query, key, value, **options))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("case", ["fp32", "evaluation", "long", "grouped"])
def test_where_torch_s_attention_is_quick_it_is_torch_s(case):
    precision = torch.float32 if case == "fp32" else torch.bfloat16
    length = {
        "long": cpu_kernels.LONGEST + 1,
        "evaluation": math.isqrt(cpu_kernels.MOST // 4) + 1,
    }.get(case, 5)
    query = torch.randn(1, 4, length, 4, dtype=precision).requires_grad_(case != "evaluation")
    key = torch.randn(1, 2 if case == "grouped" else 4, length, 4, dtype=precision)
    wanted = TORCHS_ATTENTION(query, key, key, enable_gqa=case == "grouped")
    with cpu_kernels.for_cpu():
        assert torch.equal(
            functional.scaled_dot_product_attention(query, key, key, enable_gqa=case == "grouped"),
            wanted,
        )


@pytest.fixture
def t5():
    """Two layers in the encoder and in the decoder, with two heads."""
    sizes = {
        "d_model": 16,
        "d_kv": 8,
        "num_heads": 2,
        "d_ff": 32,
        "num_layers": 2,
        "vocab_size": 50,
    }
    return T5ForConditionalGeneration(
        T5Config(decoder_start_token_id=0, pad_token_id=0, **sizes)
    ).eval()


def scored(model):
    """The loss about three rows, the second of them padded, and all gradients."""
    ids = torch.arange(1, 16).reshape(3, 5)
    mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [1] * 5])
    loss = model(input_ids=ids, attention_mask=mask, labels=ids[:, :4].contiguous()).loss
    gradients = (
        torch.autograd.grad(loss, list(model.parameters())) if torch.is_grad_enabled() else []
    )
    return [loss, *gradients]


@pytest.mark.parametrize(
    "most, joined", [(cpu_kernels.MOST, 0), (0, 4)], ids=["plain products", "torch's attention"]
)
def test_masks_and_position_biases_are_not_joined_for_plain_products(most, joined, t5, monkeypatch):
    """In two layers each of the encoder and of the decoder about the texts; the decoder's own mask is the same for all
    rows."""
    made, make = [], cpu_kernels.ORIGINALS["create_position_bias_mask"]
    monkeypatch.setitem(
        cpu_kernels.ORIGINALS,
        "create_position_bias_mask",
        lambda *rest: made.append(make(*rest)) or made[-1],
    )
    monkeypatch.setattr(cpu_kernels, "MOST", most)
    with torch.no_grad(), cpu_kernels.for_cpu():
        (found,) = scored(t5)
    assert sum(len(mask) == 3 for mask in made) == joined
    with torch.no_grad():
        torch.testing.assert_close([found], scored(t5))


def test_position_biases_are_learned_from_every_layer(t5):
    wanted = scored(t5)
    with cpu_kernels.for_cpu():
        torch.testing.assert_close(scored(t5), wanted)


def test_the_norm_s_numbers_and_gradients_are_torch_s():
    values, weight = torch.randn(2, 3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    wanted = functional.rms_norm(values, (8,), weight, 1e-6)
    gradients = torch.autograd.grad(wanted.square().sum(), (values, weight))
    with cpu_kernels.for_cpu():
        found = functional.rms_norm(values, (8,), weight, 1e-6)
    torch.testing.assert_close(found, wanted)
    assert type(found.grad_fn).__name__ == "_RmsNormBackward"
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), (values, weight)), gradients
    )
    assert functional.rms_norm is TORCHS_NORM


@pytest.mark.parametrize(
    "options", [{"eps": 1e-6}, {"weight": torch.ones(3, 8)}, {"weight": torch.ones(8)}]
)
def test_a_norm_that_is_not_t5_s_stays_torch_s(options):
    shape = options["weight"].shape if "weight" in options else (8,)
    values = torch.randn(2, 3, 8, requires_grad=True)
    with cpu_kernels.for_cpu():
        found = functional.rms_norm(values, shape, **options)
    torch.testing.assert_close(found, functional.rms_norm(values, shape, **options))
    assert type(found.grad_fn).__name__ != "_RmsNormBackward"
