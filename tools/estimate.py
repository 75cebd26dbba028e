"""Estimates, before a training, the memory of the model's states under each launcher."""

import json
from collections.abc import Sequence
from typing import Any

from recipes.common.launch import DEEPSPEED

# Bytes per parameter in mixed precision with Adam (Rajbhandari et al. 2020, "ZeRO", section 3): of
# weights, of gradients, and of what the optimizer keeps (weights in fp32 and two moments).
# Without DeepSpeed, Trainer keeps weights and gradients in fp32 and no copy of the weights: the sum
# is the same.
WEIGHTS, GRADIENTS, OPTIMIZER = 2, 2, 12
GB = 1e9


def memory(parameters: float, processes: int) -> dict[str, tuple[float, float]]:
    """Returns for each launcher the GB on each GPU, and on the host for each GPU.

    It is the memory of weights, gradients and optimizer states. It does not count activations,
    communication buffers and, where the model is sharded, the layer that is computed.
    """
    everything = WEIGHTS + GRADIENTS + OPTIMIZER
    bytes_each = {"ddp": (everything, 0.0), "fsdp2": (everything / processes, 0.0)}
    for name, path in DEEPSPEED.items():
        settings = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
        bytes_each[name] = _of_zero(settings, processes)
    found = {}
    for name, (gpu, host) in bytes_each.items():
        found[name] = (gpu * parameters / GB, host * parameters / GB)
    return found


def _of_zero(settings: dict[str, Any], processes: int) -> tuple[float, float]:
    """Returns the bytes per parameter on each GPU, and on the host, of a configuration of ZeRO.

    Stage 1 shards the optimizer's states, stage 2 the gradients, too, and stage 3 the weights.
    """
    stage = settings["stage"]
    weights = WEIGHTS / (processes if stage >= 3 else 1)
    gradients = GRADIENTS / (processes if stage >= 2 else 1)
    optimizer = OPTIMIZER / processes
    host = 0.0
    if "offload_optimizer" in settings:
        host, gradients, optimizer = gradients + optimizer, 0, 0
    if "offload_param" in settings:
        host, weights = host + weights, 0
    return weights + gradients + optimizer, host


def memory_table(sizes: Sequence[float], processes: int) -> str:
    """Returns a Markdown table: a row per launcher, a column per model size.

    A cell is the GB on each GPU, and in brackets those on the host for each GPU.
    """
    titles, found = [], []
    for size in sizes:
        titles.append(f"{size / GB:g} B")
        found.append(memory(size, processes))
    lines = [f"| GB per GPU, {processes} GPUs | {' | '.join(titles)} |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name in found[0]:
        cells = []
        for of_size in found:
            cells.append(_cell(*of_size[name]))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(gpu: float, host: float) -> str:
    if host:
        return f"{gpu:.1f} (+ {host:.1f})"
    return f"{gpu:.1f}"
