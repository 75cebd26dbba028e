"""What a training needs, before it is started: memory for the model's states under each launcher."""

from collections.abc import Sequence

# Bytes a parameter in mixed precision with Adam (Rajbhandari et al. 2020, "ZeRO", section 3): weights, gradients, and
# what the optimizer keeps (weights in fp32 and two moments). Without DeepSpeed, Trainer keeps weights and gradients in
# fp32 and no copy of the weights: the same sum.
WEIGHTS, GRADIENTS, OPTIMIZER = 2, 2, 12
GB = 1e9


def memory(parameters: float, processes: int) -> dict[str, tuple[float, float]]:
    """For each launcher the GB of weights, gradients and optimizer states on each GPU, and on the host for each GPU.

    Activations, buffers of the communication and, where a model is shared out, the layer at work come on top.
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
    return {
        name: (gpu * parameters / GB, host * parameters / GB)
        for name, (gpu, host) in bytes_each.items()
    }


def memory_table(sizes: Sequence[float], processes: int) -> str:
    """Markdown: a row a launcher, a column a model size; GB on each GPU, and in brackets on the host for each GPU."""
    found = [memory(size, processes) for size in sizes]
    lines = [f"| GB a GPU, {processes} GPUs | {' | '.join(f'{size / GB:g} B' for size in sizes)} |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name in found[0]:
        cells = [
            f"{gpu:.1f} (+ {host:.1f})" if host else f"{gpu:.1f}"
            for gpu, host in (one[name] for one in found)
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)
