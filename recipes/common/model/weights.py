"""Loads a folder's weights into a model, and names the weights that the folder lacks.

Refuses a model whose output would be random.
"""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from recipes.common.model import model_folders
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

BODY = (torch.nn.Embedding, torch.nn.ModuleList)  # a model's head has none of them
WRAPPED = rf"^({'|'.join(map(re.escape, upstream.WRAPPERS))})+"


class LostWeight(LookupError):
    """A checkpoint lacks a weight. Without this error, the weight would stay what it was."""


def load(
    auto_class: type, name: str, flag: str, trust_remote_code: bool, **options: Any
) -> tuple[PreTrainedModel, set[str]]:
    """Returns the model of a folder or a name on the Hub, and the names of its new weights.

    New are weights that are missing there. Where other sizes are allowed, weights of another size
    are new too.
    """
    options["output_loading_info"] = True
    model, found = model_folders.load(auto_class, name, flag, trust_remote_code, **options)
    prefix = _prefix_of_wrapper(found["unexpected_keys"])
    if prefix:
        options["key_mapping"] = {WRAPPED: ""}
        model, found = model_folders.load(auto_class, name, flag, trust_remote_code, **options)
        # Otherwise transformers (5.23) would save the weights with the prefix again.
        upstream.keep_weight_names(model)
        note(
            f"the names of the weights in {name} begin with {prefix} (as in a wrapped model):"
            " read without it"
        )
    of_another_size = {key for key, *_ in found["mismatched_keys"]}
    return model, found["missing_keys"] | of_another_size


def _prefix_of_wrapper(keys: Iterable[str]) -> str:
    """Returns what a wrapper put in front of the names of weights, or ""."""
    for key in keys:
        match = re.match(WRAPPED, key)
        if match:
            return match[0]
    return ""


def check(model: PreTrainedModel, new: Iterable[str], name: str, flag: str) -> list[str]:
    """Returns the parts of the model's head that are new.

    Refuses a body with a new part, and weights that are not finite.
    """
    check_finite(model, name, flag)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    new_heads, lost = set(), []
    for key in parameters.keys() & {*new}:
        head = _head_of(model, key)
        if head:
            new_heads.add(head)
        else:
            lost.append(key)
    if lost:
        kind = type(model).__name__
        fix = f"name a checkpoint that holds all of a {kind}, or train a new model: --model_type"
        raise Refusal(f"{name} {_lacks(lost)}", flag, fix)
    return sorted(new_heads)


def refuse_new(new: Iterable[str], name: str, flag: str) -> None:
    """Refuses to use a model of which a part is new."""
    new = list(new)
    if new:
        fix = "name the folder of a trained model (a run's --output_dir), or train this one first"
        raise Refusal(f"{name} {_lacks(new)}: its output would be random", flag, fix)


def _lacks(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"lacks weights of the model: {min(keys)}{more}"


def heads(model: torch.nn.Module) -> list[str]:
    """Returns the names of the parts that stand above a model's embeddings and layers."""
    found = []
    for name, part in model.named_children():
        if not any(isinstance(module, BODY) for module in part.modules()):
            found.append(name)
    return found


def _head_of(model: PreTrainedModel, key: str) -> str:
    """Returns the part of the head to which a weight belongs; "" for a weight of the body.

    A pooler that only some tasks need belongs to the head, although it stands in the body. For
    example, BERT has none as a masked language model, and classification starts with a new one.
    """
    pooler = f"{model.base_model_prefix}.pooler"
    if key.startswith(f"{pooler}."):
        options = inspect.signature(type(model.base_model).__init__).parameters
        if "add_pooling_layer" in options:
            return pooler
    first = key.split(".")[0]
    is_part = first in dict(model.named_children())
    if is_part and first not in heads(model):
        return ""
    return first


def check_finite(model: torch.nn.Module, name: str, flag: str) -> None:
    """Refuses weights that are not finite: they make every output not finite."""
    for key, weight in model.named_parameters():
        if not is_finite(weight):
            fix = "take an earlier checkpoint, or train it again: that training went wrong"
            raise Refusal(f"{name} is damaged: the weight {key} is not finite", flag, fix)


def is_finite(weight: torch.Tensor) -> torch.Tensor:
    """Returns whether a weight is finite, as a bool on its device.

    Under ZeRO-3 and FSDP it looks at the part that this process holds. Other processes hold the
    rest.
    """
    part = getattr(weight, "ds_tensor", weight)
    if isinstance(part, DTensor):
        part = part.to_local()
    return part.isfinite().all()


def lost_weight(model: torch.nn.Module, missing: Iterable[str]) -> str:
    """Returns the first weight that is missing in what a model was loaded from, or "".

    A tied weight is not missing if it came under another name.
    """
    weights = model.state_dict()
    missing = {*missing}
    loaded = {value.data_ptr() for name, value in weights.items() if name not in missing}
    for name in sorted(missing - upstream.names_not_saved(model)):
        if weights[name].data_ptr() not in loaded:
            return name
    return ""


def check_loaded(model: torch.nn.Module, missing: Iterable[str]) -> None:
    """Refuses to continue with a weight that a checkpoint did not bring."""
    lost = lost_weight(model, missing)
    if lost:
        raise LostWeight(f"it lacks the weight {lost}")


def load_files(model: torch.nn.Module, checkpoint: Path) -> None:
    """Loads the safetensors files of a checkpoint, whose names are those of the model.

    Raises LostWeight where one is missing.
    """
    files = sorted(checkpoint.glob("model*.safetensors"))
    if not files:
        raise LookupError("model.safetensors is missing")
    missing = {*model.state_dict()}
    for path in files:
        found = load_file(path)
        model.load_state_dict(found, strict=False)
        missing -= found.keys()
    check_loaded(model, missing)


def reload(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """Loads a checkpoint whose file has other names than the model, as from_pretrained reads it.

    By default `save_pretrained` writes the names under which an architecture was published (BERT's
    gamma and beta, one weight per expert). `from_pretrained` translates them. Trainer does not: it
    loads the file as it is.
    """
    try:
        with model_folders.without_report():
            read, found = type(model).from_pretrained(
                checkpoint, config=model.config, output_loading_info=True
            )
    except RuntimeError:  # the error's own text is transformers' long report
        raise LostWeight("it lacks a weight of those that transformers puts together") from None
    check_loaded(read, found["missing_keys"])
    check_loaded(model, model.load_state_dict(read.state_dict(), strict=False).missing_keys)
