"""Dropout on a CPU: torch's in all but the random numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recipes.common import dropout

TORCHS = functional.dropout


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def dropped(values, **options):
    with dropout.quick():
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
        with dropout.quick():
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
    with pytest.raises(ValueError, match="stop"), dropout.quick():
        assert functional.dropout is not TORCHS
        raise ValueError("stop")
    assert functional.dropout is TORCHS
