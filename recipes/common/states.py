"""The state of an optimizer, a schedule or a random generator as one safetensors file: arrays and JSON, no pickle."""

import json
import random
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
    """What `write` wrote."""
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


def randomness() -> dict[str, Any]:
    """The states of the random generators of Python, numpy, torch and its devices."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = {"python": random.getstate(), "numpy": numpy.random.get_state(), "torch": torch.get_rng_state()}
    return states | {"devices": devices}


def set_randomness(states: dict[str, Any]) -> None:
    """Sets what `randomness` gave."""
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["devices"])
