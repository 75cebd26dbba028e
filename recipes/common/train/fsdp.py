"""Uses FSDP2 where accelerate (1.15) does not do so by itself.

It shards among CPU processes, layer by layer for every architecture, with weights that several
parts of a model use, and with sums in fp32.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import FSDPModule

from recipes.common.config import engines
from recipes.common.runtime import upstream

if TYPE_CHECKING:
    from transformers import TrainingArguments

EMBEDDINGS = ("get_input_embeddings", "get_output_embeddings")


def begin(accelerator: Accelerator, training_arguments: "TrainingArguments") -> bool:
    """Makes the accelerator shard the model layer by layer, if FSDP is used; returns whether it is.

    By itself accelerate trains whole copies on CPU processes, as DDP does.
    """
    state = accelerator.state
    is_on_cpus = state.distributed_type == DistributedType.MULTI_CPU
    if engines.uses_fsdp(training_arguments) and is_on_cpus:
        _shard_on_cpus(state, training_arguments)
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is None:
        return False
    policy = plugin.mixed_precision_policy
    if policy is not None:
        # accelerate's policy sums the gradients of all processes in 16 bits, and casts losses to 16
        # bits.
        policy = replace(policy, reduce_dtype=torch.float32, output_dtype=None)
        plugin.mixed_precision_policy = policy
    accelerator.prepare = partial(_prepare, accelerator.prepare, plugin)
    return True


def _shard_on_cpus(state: AcceleratorState, training_arguments: "TrainingArguments") -> None:
    options = training_arguments.fsdp_plugin_args or {}
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**options)
    state.distributed_type = DistributedType.FSDP
    upstream.set_distributed_type(DistributedType.FSDP)
    if state.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(state.mixed_precision)


def _prepare(
    prepare: Callable[..., Any], plugin: FullyShardedDataParallelPlugin, *objects: Any
) -> Any:
    """Returns what the accelerator makes of these objects; one of them may be a model."""
    for one in objects:
        if isinstance(one, nn.Module):
            with _laid_out(one, plugin):
                return prepare(*objects)
    return prepare(*objects)


@contextmanager
def _laid_out(model: nn.Module, plugin: FullyShardedDataParallelPlugin) -> Iterator[None]:
    """Makes accelerate gather each layer by itself inside the context.

    The embeddings are gathered apart from the rest only where no other part uses their weights:
    torch refuses a weight in two groups.
    """
    _give_each_place_a_module(model)
    plugin.transformer_cls_names_to_wrap = plugin.transformer_cls_names_to_wrap or _layers(model)
    hidden = EMBEDDINGS if _shares_weights(model) else ()
    for name in hidden:
        setattr(model, name, _no_module)
    try:
        yield
    finally:
        for name in hidden:
            delattr(model, name)


def _no_module() -> None:
    """Hides embeddings from accelerate: it takes the place of EMBEDDINGS."""


def tied(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns gathered weights with one tensor again where a weight has two names.

    Otherwise it would be saved twice.
    """
    sources = getattr(model, "all_tied_weights_keys", {})
    found = {}
    for name, value in weights.items():
        found[name] = weights.get(sources.get(name, name), value)
    return found


def reshard(model: nn.Module) -> None:
    """Shards again the weights that an evaluation has gathered: no backward pass has done it.

    torch loads weights into sharded parts only.
    """
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _give_each_place_a_module(model: nn.Module) -> None:
    """Copies an embedding module for each place that uses it. The copies share one weight.

    T5 uses one module in several places once its embeddings are enlarged. torch saves a module
    under one name, and then asks for all its names.
    """
    seen = set()
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if isinstance(part, nn.Embedding) and part in seen:
            twin = copy.copy(part)
            upstream.give_own_parameters(twin)
            model.set_submodule(name, twin)
        seen.add(part)


def _layers(model: nn.Module) -> list[str]:
    """Returns the names of the layers' classes.

    transformers' own lists know of half the architectures. They also count BERT's embeddings among
    the layers, although its head uses their weights.
    """
    classes = set(map(type, _listed(model, False)))
    return sorted(layer.__name__ for layer in classes if not layer.__module__.startswith("torch."))


def _listed(part: nn.Module, is_listed: bool) -> list[nn.Module]:
    """Returns the modules in a model's outermost lists."""
    is_list = isinstance(part, nn.ModuleList)
    if is_listed and not is_list:
        return [part]
    found = []
    for child in part.children():
        found.extend(_listed(child, is_list))
    return found


def _shares_weights(model: nn.Module) -> bool:
    """Whether several parts use one weight, and are not just the embeddings and the head.

    accelerate takes care of these two itself.
    """
    known = {model.get_input_embeddings(), model.get_output_embeddings()}
    owners = defaultdict(set)
    for part in model.modules():
        for weight in part.parameters(recurse=False):
            owners[weight].add(part)
    return any(len(parts) > 1 and not parts <= known for parts in owners.values())
