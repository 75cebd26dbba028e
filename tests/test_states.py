"""A state comes back from its file as it was, to the bit, and the file is no pickle."""

import random

import numpy
import pytest
import torch

from recipes.common import states


def test_a_nest_comes_back_as_it_was(tmp_path):
    state = {"a": [1, 2.5, None, "x", True], 7: (1, (2, float("inf"))), "empty": {}, "numpy": numpy.float64(0.1)}
    states.write(state, tmp_path / "s.safetensors")
    assert states.read(tmp_path / "s.safetensors") == state


def test_tensors_and_arrays_come_back_in_their_type(tmp_path):
    tensors = [
        torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(3),
    ]
    states.write({"tensors": tensors, "array": numpy.arange(3, dtype=numpy.uint32)}, tmp_path / "s.safetensors")
    found = states.read(tmp_path / "s.safetensors")
    for one, other in zip(found["tensors"], tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    assert isinstance(found["array"], numpy.ndarray)
    assert found["array"].tolist() == [0, 1, 2]


def test_an_object_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a state holds a object"):
        states.write({"a": object()}, tmp_path / "s.safetensors")


def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path):
    def trained(steps, start=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        if start:
            model.load_state_dict(start[0])
            optimizer.load_state_dict(states.read(start[1]))
        for step in steps:
            model(torch.full((1, 3), float(step))).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    model, optimizer = trained(range(5))
    states.write(optimizer.state_dict(), tmp_path / "optimizer.safetensors")
    resumed, _ = trained(range(5, 9), (model.state_dict(), tmp_path / "optimizer.safetensors"))
    whole, _ = trained(range(9))
    assert torch.equal(resumed.weight, whole.weight)


def test_random_generators_go_on_where_they_were(tmp_path):
    def draw():
        return random.random(), numpy.random.random(), torch.rand(1).item()

    states.write(states.randomness(), tmp_path / "s.safetensors")
    first = draw()
    assert draw() != first
    states.set_randomness(states.read(tmp_path / "s.safetensors"))
    assert draw() == first
