"""A folder's weights -> a model: what the folder lacks is named, and what would answer at random is refused."""

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
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

BODY = (torch.nn.Embedding, torch.nn.ModuleList)  # what a model's head has none of
# What wrappers put in front of a weight's name: DistributedDataParallel, torch.compile, FSDP.
WRAPPERS = r"^(module\.|_orig_mod\.|_fsdp_wrapped_module\.)+"


class LostWeight(LookupError):
    """A checkpoint lacks a weight, which would stay what it was."""


def load(
    auto_class: Any, name: str, flag: str, trust_remote_code: bool, **options: Any
) -> tuple[PreTrainedModel, set[str]]:
    """The model of a folder or a name on the Hub, and the names of the weights that are new, because none came with it.

    New are those that are missing, and those of another size where that is allowed.
    """
    options["output_loading_info"] = True
    model, found = model_folders.load(auto_class, name, flag, trust_remote_code, **options)
    wrapped = next(
        (match for key in found["unexpected_keys"] if (match := re.match(WRAPPERS, key))), None
    )
    if wrapped:
        model, found = model_folders.load(
            auto_class, name, flag, trust_remote_code, key_mapping={WRAPPERS: ""}, **options
        )
        model._weight_conversions = []  # or transformers (5.23) would save them with the prefix again
        note(
            f"the names of the weights in {name} begin with {wrapped[0]} (as in a wrapped model): read without it"
        )
    return model, found["missing_keys"] | {key for key, *_ in found["mismatched_keys"]}


def check(model: PreTrainedModel, new: Iterable[str], name: str, flag: str) -> list[str]:
    """The parts of the model's head that are new; refuses a body of which a part is new, and numbers that are none."""
    check_finite(model, name, flag)
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    owners = {key: _head_of(model, key) for key in {*new} & parameters}
    lost = [key for key, head in owners.items() if not head]
    if lost:
        fix = f"name a checkpoint that holds all of a {type(model).__name__}, or train a new model: --model_type"
        raise Refusal(f"{name} {_lacks(lost)}", flag, fix)
    return sorted({*owners.values()})


def refuse_new(new: Iterable[str], name: str, flag: str) -> None:
    """Refuses a model that would answer, although a part of it is new."""
    if new := [*new]:
        fix = "name the folder of a trained model (a run's --output_dir), or train this one first"
        raise Refusal(f"{name} {_lacks(new)}: the answers would be random", flag, fix)


def _lacks(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"lacks weights of the model: {min(keys)}{more}"


def heads(model: torch.nn.Module) -> list[str]:
    """The names of the parts that stand above a model's embeddings and layers."""
    return [
        name
        for name, part in model.named_children()
        if not any(isinstance(one, BODY) for one in part.modules())
    ]


def _head_of(model: PreTrainedModel, key: str) -> str:
    """The part of the head to which a weight belongs; "" for one of the body.

    A pooler that only some tasks need belongs to the head, although it stands in the body: BERT has none as a masked
    language model, and classification begins with a new one.
    """
    first, body = key.split(".")[0], model.base_model
    pooler = f"{model.base_model_prefix}.pooler"
    if (
        key.startswith(f"{pooler}.")
        and "add_pooling_layer" in inspect.signature(type(body).__init__).parameters
    ):
        return pooler
    is_body = first in {name for name, _ in model.named_children()} - {*heads(model)}
    return "" if is_body else first


def check_finite(model: torch.nn.Module, name: str, flag: str) -> None:
    """Refuses weights that are not finite: every answer would be, too."""
    wrong = next((key for key, weight in model.named_parameters() if not is_finite(weight)), None)
    if wrong:
        fix = "take an earlier checkpoint, or train it again: that training went wrong"
        raise Refusal(f"{name} is damaged: the weight {wrong} is not finite", flag, fix)


def is_finite(weight: torch.Tensor) -> torch.Tensor:
    """Whether the numbers that this process holds of a weight are finite, as a bool on its device.

    Under ZeRO-3 and FSDP other processes hold the rest.
    """
    part = getattr(weight, "ds_tensor", weight)
    return (part.to_local() if isinstance(part, DTensor) else part).isfinite().all()


def lost_weight(model: torch.nn.Module, missing: Iterable[str]) -> str:
    """The first weight that is missing in what a model was loaded from, or ""; a tied one came with another."""
    weights, missing = model.state_dict(), {*missing}
    loaded = {value.data_ptr() for name, value in weights.items() if name not in missing}
    missing -= {*(getattr(model, "_keys_to_ignore_on_save", None) or ())}
    return next((name for name in sorted(missing) if weights[name].data_ptr() not in loaded), "")


def check_loaded(model: torch.nn.Module, missing: Iterable[str]) -> None:
    """Refuses to go on with a weight that a checkpoint did not bring."""
    if lost := lost_weight(model, missing):
        raise LostWeight(f"it lacks the weight {lost}")


def load_files(model: torch.nn.Module, checkpoint: Path) -> None:
    """Loads the safetensors files of a checkpoint, whose names are those of the model; raises LostWeight."""
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

    By itself `save_pretrained` writes the names under which an architecture was published (BERT's gamma and beta, an
    expert a weight). `from_pretrained` translates them; Trainer, which loads the file as it is, does not.
    """
    try:
        with model_folders.without_report():
            read, found = type(model).from_pretrained(
                checkpoint, config=model.config, output_loading_info=True
            )
    except RuntimeError:  # in the words of its report
        raise LostWeight("it lacks a weight of those that transformers joins to one") from None
    check_loaded(read, found["missing_keys"])
    check_loaded(model, model.load_state_dict(read.state_dict(), strict=False).missing_keys)
