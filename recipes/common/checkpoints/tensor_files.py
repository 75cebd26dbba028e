"""The state of an optimizer, a schedule or a random generator as one safetensors file: arrays and JSON, no pickle."""

import json
import random
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import safe_open
from safetensors.torch import save_file

PLAIN = (bool, int, float, str, type(None))


def write(state: Any, path: Path) -> None:
    """Writes a nest of dicts, lists and tuples with tensors, arrays and plain values in it."""
    tensors: dict[str, torch.Tensor] = {}
    names: dict[int, str] = {}  # a tensor that stands in several places is written once

    def plain(value: Any) -> Any:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, dict):
            return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__: [plain(item) for item in value]}
        if isinstance(value, (torch.Tensor, numpy.ndarray)):
            name = names.setdefault(id(value), str(len(names)))
            tensors[name] = torch.as_tensor(value).detach().cpu().contiguous()
            return {"tensor" if isinstance(value, torch.Tensor) else "array": name}
        if isinstance(value, numpy.generic):
            return value.item()
        raise TypeError(f"a state holds a {type(value).__name__}")

    skeleton = plain(state)
    save_file(tensors, path, metadata={"state": json.dumps(skeleton)})


def read(path: Path) -> Any:
    """What `write` wrote; raises LookupError where the file is missing, and other errors where it is something else."""
    if not path.is_file():
        raise LookupError(f"{path.name} is missing")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        skeleton = json.loads(file.metadata()["state"])

    def built(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "dict":
            return {built(key): built(item) for key, item in content}
        if kind in ("tensor", "array"):
            return tensors[content] if kind == "tensor" else tensors[content].numpy()
        items = [built(item) for item in content]
        return tuple(items) if kind == "tuple" else items

    return built(skeleton)


def check_like(found: Any, wanted: Any, name: str = "the state") -> None:
    """Raises TypeError or ValueError where a nest has values of other types, lengths or shapes than another one; what
    only one of the two knows, as another version's, and what is None in the other one, may be anything."""
    if wanted is None:
        return
    numbers = isinstance(found, (int, float)) and isinstance(wanted, (int, float))
    if not numbers and type(found) is not type(wanted):
        raise TypeError(f"{name} is a {type(found).__name__}, not a {type(wanted).__name__}")
    if isinstance(wanted, dict):
        for key in wanted.keys() & found.keys():
            check_like(found[key], wanted[key], str(key))
    elif isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            raise ValueError(f"{name} has {len(found)} entries, not {len(wanted)}")
        for one, other in zip(found, wanted, strict=True):
            check_like(one, other, name)
    elif isinstance(wanted, (torch.Tensor, numpy.ndarray)) and (found.shape, found.dtype) != (
        wanted.shape,
        wanted.dtype,
    ):
        raise ValueError(f"{name} has the shape {tuple(found.shape)}, not {tuple(wanted.shape)}")


def check_optimizer(found: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raises where a state is none of this optimizer: Adam's, the default, to the shapes of its moments."""
    groups = optimizer.state_dict()["param_groups"]
    check_like(found["param_groups"], groups, "param_groups")
    if not all("lr" in group for group in found["param_groups"]):
        raise KeyError("lr")
    if not isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.Adam):
        return
    trained = [value for group in optimizer.param_groups for value in group["params"]]
    for number, state in found["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            if state[name].shape != trained[number].shape:
                raise ValueError(
                    f"{name} of parameter {number} has the shape {tuple(state[name].shape)}"
                )
        check_like(state["step"], torch.tensor(0.0), "step")


def randomness() -> dict[str, Any]:
    """The states of the random generators of Python, numpy, torch and the GPU that this process computes on."""
    devices = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    states = {
        "python": random.getstate(),
        "numpy": numpy.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    return states | {"devices": devices}


def set_randomness(states: dict[str, Any]) -> None:
    """Sets what `randomness` gave."""
    check_like(states, {name: state for name, state in randomness().items() if name != "devices"})
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    try:
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and states["devices"]:
            torch.cuda.set_rng_state(states["devices"][0])
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def randomness_kept() -> AbstractContextManager[None]:
    """Afterwards torch's generators, of the GPUs only this process's, are as they were before."""
    return torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else [])
