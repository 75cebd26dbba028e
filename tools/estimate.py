"""Estimates, before a training, the memory of the model's states under each launcher."""

from collections.abc import Sequence

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
    bytes_each = {
        "ddp": (everything, 0),
        "zero1": (WEIGHTS + GRADIENTS + OPTIMIZER / processes, 0),
        "zero2": (WEIGHTS + (GRADIENTS + OPTIMIZER) / processes, 0),
        "zero2_offload": (WEIGHTS, (GRADIENTS + OPTIMIZER) / processes),
        "zero3": (everything / processes, 0),
        "fsdp2": (everything / processes, 0),
        "zero3_offload": (0, everything / processes),
    }
    found = {}
    for name, (gpu, host) in bytes_each.items():
        found[name] = (gpu * parameters / GB, host * parameters / GB)
    return found


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
