"""FSDP2, where accelerate (1.15) leaves it undone: among CPU processes, for every architecture layer by layer, with
weights that several parts of a model use, and with sums in fp32."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import FSDPModule

from recipes.common.config import engines

EMBEDDINGS = ("get_input_embeddings", "get_output_embeddings")


def begin(accelerator: Accelerator, training_arguments: Any) -> bool:
    """Whether FSDP shares the model out, which the accelerator then does layer by layer.

    By itself accelerate trains whole copies on CPU processes, as DDP does.
    """
    state = accelerator.state
    if (
        engines.uses_fsdp(training_arguments)
        and state.distributed_type == DistributedType.MULTI_CPU
    ):
        state.fsdp_plugin = FullyShardedDataParallelPlugin(
            **training_arguments.fsdp_plugin_args or {}
        )
        state.distributed_type = PartialState._shared_state["distributed_type"] = (
            DistributedType.FSDP
        )
        if state.mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is not None and plugin.mixed_precision_policy is not None:
        # accelerate's adds the gradients of all processes in 16 bits, and hands losses on in them.
        policy = replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
        )
        plugin.mixed_precision_policy = policy
    if plugin is not None:
        accelerator.prepare = partial(_prepare, accelerator.prepare, plugin)
    return plugin is not None


def _prepare(
    prepare: Callable[..., Any], plugin: FullyShardedDataParallelPlugin, *objects: Any
) -> Any:
    """What the accelerator makes of these objects, a model among them or none."""
    model = next((one for one in objects if isinstance(one, nn.Module)), None)
    with nullcontext() if model is None else _laid_out(model, plugin):
        return prepare(*objects)


@contextmanager
def _laid_out(model: nn.Module, plugin: FullyShardedDataParallelPlugin) -> Iterator[None]:
    """Within it accelerate gathers each layer by itself, and the embeddings apart from the rest only where no other
    part uses their weights: torch refuses a weight in two groups."""
    _one_module_a_place(model)
    plugin.transformer_cls_names_to_wrap = plugin.transformer_cls_names_to_wrap or _layers(model)
    hidden = EMBEDDINGS if _shares_weights(model) else ()
    for name in hidden:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in hidden:
            delattr(model, name)


def tied(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that were gathered from all processes, one under two names as one again: it would be saved twice."""
    sources = getattr(model, "all_tied_weights_keys", {})
    return {name: weights.get(sources.get(name, name), value) for name, value in weights.items()}


def reshard(model: nn.Module) -> None:
    """Gives back what an evaluation has gathered and no backward pass took: torch loads into parts only."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _one_module_a_place(model: nn.Module) -> None:
    """Makes modules of their own, with one weight, of embeddings that stand in several places, as T5's do once they are
    enlarged: torch saves a module under one name, and then asks for all."""
    seen = set()
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if isinstance(part, nn.Embedding) and part in seen:
            twin = copy.copy(part)
            twin._parameters = dict(part._parameters)
            model.set_submodule(name, twin)
        seen.add(part)


def _layers(model: nn.Module) -> list[str]:
    """The names of the layers' classes: transformers' own lists know of half the architectures, and count BERT's
    embeddings among the layers, whose weights its head uses, too."""
    classes = {type(layer) for layer in _listed(model, False)}
    return sorted(layer.__name__ for layer in classes if not layer.__module__.startswith("torch."))


def _listed(part: nn.Module, is_listed: bool) -> list[nn.Module]:
    """What stands in a model's outermost lists."""
    is_list = isinstance(part, nn.ModuleList)
    if is_listed and not is_list:
        return [part]
    return [found for child in part.children() for found in _listed(child, is_list)]


def _shares_weights(model: nn.Module) -> bool:
    """Whether a weight belongs to more parts than the embeddings and the head, of which accelerate knows."""
    known = {getattr(model, name)() for name in EMBEDDINGS}
    owners = defaultdict(set)
    for part in model.modules():
        for weight in part.parameters(recurse=False):
            owners[weight].add(part)
    return any(len(parts) > 1 and not parts <= known for parts in owners.values())
