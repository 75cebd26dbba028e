"""Writes and reads states as one safetensors file: tensors and JSON, no pickle.

States are those of an optimizer, a schedule or the random generators.
"""

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
Array = torch.Tensor | numpy.ndarray


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
        if isinstance(value, numpy.generic):
            return value.item()
        if isinstance(value, torch.Tensor):
            kind = "tensor"
        elif isinstance(value, numpy.ndarray):
            kind = "array"
        else:
            raise TypeError(f"a state holds a {type(value).__name__}")
        name = names.setdefault(id(value), str(len(names)))
        tensors[name] = torch.as_tensor(value).detach().cpu().contiguous()
        return {kind: name}

    skeleton = plain(state)
    save_file(tensors, path, metadata={"state": json.dumps(skeleton)})


def read(path: Path) -> Any:
    """Reads what `write` wrote.

    Raises LookupError where the file is missing, and other errors where it is something else.
    """
    if not path.is_file():
        raise LookupError(f"{path.name} is missing")
    tensors: dict[str, torch.Tensor] = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dict)
            tensors[name] = file.get_tensor(name)
        skeleton = json.loads(file.metadata()["state"])
    return _built(skeleton, tensors)


def _built(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Returns the nest that a skeleton of JSON and the tensors make up."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        built = {}
        for key, item in content:
            built[_built(key, tensors)] = _built(item, tensors)
        return built
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    items = [_built(item, tensors) for item in content]
    if kind == "tuple":
        return tuple(items)
    return items


def check_like(found: Any, wanted: Any, name: str = "the state") -> None:
    """Raises TypeError or ValueError where a nest differs from the `wanted` one.

    It differs by the types of values, the lengths of lists and the shapes of tensors. Does not
    check a value that only one of the two has (another version wrote it), or that is None in the
    wanted one.
    """
    if wanted is None:
        return
    are_numbers = isinstance(found, (int, float)) and isinstance(wanted, (int, float))
    if not are_numbers and type(found) is not type(wanted):
        raise TypeError(f"{name} is a {type(found).__name__}, not a {type(wanted).__name__}")
    if isinstance(wanted, dict):
        for key in wanted.keys() & found.keys():
            check_like(found[key], wanted[key], str(key))
    elif isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            raise ValueError(f"{name} has {len(found)} entries, not {len(wanted)}")
        for one, other in zip(found, wanted, strict=True):
            check_like(one, other, name)
    elif isinstance(wanted, (torch.Tensor, numpy.ndarray)):
        _check_shape(found, wanted, name)


def _check_shape(found: Array, wanted: Array, name: str) -> None:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        shape, other = tuple(found.shape), tuple(wanted.shape)
        raise ValueError(f"{name} has the shape {shape}, not {other}")


def check_optimizer(found: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raises an error where a state is not of this optimizer.

    With Adam, the default, the shapes of the moments are checked, too.
    """
    groups = optimizer.state_dict()["param_groups"]
    check_like(found["param_groups"], groups, "param_groups")
    for group in found["param_groups"]:
        if "lr" not in group:
            raise KeyError("lr")
    if not isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.Adam):
        return
    trained = []
    for group in optimizer.param_groups:
        trained.extend(group["params"])
    for number, state in found["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            shape = state[name].shape
            if shape != trained[number].shape:
                raise ValueError(f"{name} of parameter {number} has the shape {tuple(shape)}")
        check_like(state["step"], torch.tensor(0.0), "step")


def randomness() -> dict[str, Any]:
    """Returns the states of the random generators of Python, numpy and torch.

    For the GPUs, it is only the state of this process's GPU.
    """
    devices = []
    if torch.cuda.is_available():
        devices.append(torch.cuda.get_rng_state())
    return {
        "python": random.getstate(),
        "numpy": numpy.random.get_state(),
        "torch": torch.get_rng_state(),
        "devices": devices,
    }


def set_randomness(states: dict[str, Any]) -> None:
    """Sets the random generators to what `randomness` returned.

    Raises TypeError or ValueError where the states are of another kind.
    """
    own = randomness()
    del own["devices"]  # their number may differ
    check_like(states, own)
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    try:
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and states["devices"]:
            torch.cuda.set_rng_state(states["devices"][0])
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def randomness_kept() -> AbstractContextManager[None]:
    """Returns a context after which torch's random generators are as they were before it.

    For the GPUs, it keeps only the generator of this process's GPU.
    """
    devices = []
    if torch.cuda.is_available():
        devices.append(torch.cuda.current_device())
    return torch.random.fork_rng(devices)
