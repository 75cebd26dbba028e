"""A state comes back from its file as it was, to the bit, and the file is no pickle."""

import copy
import random

import numpy
import pytest
import torch

from recipes.common.checkpoints import tensor_files


def test_a_nest_comes_back_as_it_was(tmp_path):
    state = {
        "a": [1, 2.5, None, "x", True],
        7: (1, (2, float("inf"))),
        "empty": {},
        "numpy": numpy.float64(0.1),
    }
    tensor_files.write(state, tmp_path / "s.safetensors")
    assert tensor_files.read(tmp_path / "s.safetensors") == state


def test_tensors_and_arrays_come_back_in_their_type(tmp_path):
    tensors = [
        torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(3),
    ]
    tensor_files.write(
        {"tensors": tensors, "array": numpy.arange(3, dtype=numpy.uint32)},
        tmp_path / "s.safetensors",
    )
    found = tensor_files.read(tmp_path / "s.safetensors")
    for one, other in zip(found["tensors"], tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    assert isinstance(found["array"], numpy.ndarray)
    assert found["array"].tolist() == [0, 1, 2]


def test_an_object_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a state holds a object"):
        tensor_files.write({"a": object()}, tmp_path / "s.safetensors")


def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path):
    def trained(steps, start=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        if start:
            model.load_state_dict(start[0])
            optimizer.load_state_dict(tensor_files.read(start[1]))
        for step in steps:
            model(torch.full((1, 3), float(step))).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    model, optimizer = trained(range(5))
    tensor_files.write(optimizer.state_dict(), tmp_path / "optimizer.safetensors")
    resumed, _ = trained(range(5, 9), (model.state_dict(), tmp_path / "optimizer.safetensors"))
    whole, _ = trained(range(9))
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda state: state["param_groups"][0].pop("lr"), "lr"),
        (lambda state: state["param_groups"][0].update(eps="1"), "eps is a str, not a float"),
        (lambda state: state["param_groups"].append({}), "param_groups has 2 entries, not 1"),
        (lambda state: state["state"][0].pop("exp_avg"), "exp_avg"),
        (
            lambda state: state["state"][1].update(exp_avg_sq=torch.zeros(3)),
            "exp_avg_sq of parameter 1 has the shape",
        ),
        (lambda state: state["state"][0].update(step=7), "step is a int, not a Tensor"),
    ],
)
def test_the_state_of_another_optimizer_is_found(damage, words):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    tensor_files.check_optimizer(state, torch.optim.AdamW(model.parameters(), lr=7))
    damage(state)
    with pytest.raises((LookupError, TypeError, ValueError), match=words):
        tensor_files.check_optimizer(state, optimizer)


def test_random_states_of_another_shape_are_found():
    state = tensor_files.randomness()
    with pytest.raises(ValueError, match="torch has the shape"):
        tensor_files.set_randomness(state | {"torch": state["torch"][:-1]})
    with pytest.raises(TypeError, match="numpy is a list"):
        tensor_files.set_randomness(state | {"numpy": list(state["numpy"])})


def test_random_generators_go_on_where_they_were(tmp_path):
    def draw():
        return random.random(), numpy.random.random(), torch.rand(1).item()

    tensor_files.write(tensor_files.randomness(), tmp_path / "s.safetensors")
    first = draw()
    assert draw() != first
    tensor_files.set_randomness(tensor_files.read(tmp_path / "s.safetensors"))
    assert draw() == first


def test_of_several_gpus_only_the_generator_of_the_process_s_own_is_kept(monkeypatch, recwarn):
    """A checkpoint of two GPUs, which held the generators of both, ended a run on one; eight were warned of."""
    seen = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr(
        "torch.cuda.get_rng_state", lambda device=1: torch.tensor([device], dtype=torch.uint8)
    )
    monkeypatch.setattr(
        "torch.cuda.set_rng_state", lambda state, device=1: seen.append((state.tolist(), device))
    )
    found = tensor_files.randomness()
    assert [state.tolist() for state in found["devices"]] == [[1]]
    tensor_files.set_randomness(
        found | {"devices": [*found["devices"], torch.tensor([7], dtype=torch.uint8)]}
    )
    with tensor_files.randomness_kept():
        pass
    assert seen == [([1], 1), ([1], 1)]
    assert not [one for one in recwarn if "devices" in str(one.message)]
