"""Reads --config_overrides: values in the types of their settings.

Also derives the settings that depend on the changed ones.
"""

import math
import re
from typing import TYPE_CHECKING, Any

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, reason

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WHERE = "--config_overrides"
FROM_A_FOLDER = "write a config.json with it and name its folder: --config_name FOLDER"
HEADS, SHARED = "num_attention_heads", "num_key_value_heads"
TRUTHS = {
    "true": True,
    "1": True,
    "y": True,
    "yes": True,
    "false": False,
    "0": False,
    "n": False,
    "no": False,
}
# bool comes before int, for True is an int too.
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
CONSTANTS = {"none": None, "null": None, "true": True, "false": False}
# Settings that the recipes decide themselves -> why.
FROM_LABELS = "it follows from the labels in the data"
DECIDED = {
    "model_type": "it is the architecture, which --model_type chooses",
    "architectures": "it is the class of the model",
    "num_labels": FROM_LABELS,
    "id2label": FROM_LABELS,
    "label2id": FROM_LABELS,
    "problem_type": FROM_LABELS,
    "return_dict": "the outputs of a model are read by their names",
    "use_return_dict": "the outputs of a model are read by their names",
}
# Sizes that must be at least 1: 0 leaves nothing of the model.
SIZE = re.compile(
    r"(size|dim|heads?|_ff|_kv|d_model|n_embd|n_inner|positions|position_embeddings)$"
    r"|^[a-z]+(_hidden)?_layers?$"
)
# Settings whose sizes must fit others, the likeliest first: a refusal names them.
FITTING = (
    "heads?$",
    "^(hidden_size|d_model|n_embd|dim)$",
    "(head_|rotary_|d_)(dim|kv)$",
    "experts",
    "window",
    "dim$",
)


def parse(config: "PretrainedConfig", overrides: str) -> dict[str, Any]:
    """Reads `name=value,name=value`; returns each value in the type of its setting."""
    changes = {}
    for item in overrides.split(","):
        key, equals, value = item.strip().partition("=")
        if key in DECIDED:
            raise Refusal(f"{key} cannot be overridden: {DECIDED[key]}", WHERE, "leave it out")
        if not equals or not _has(config, key):
            close = nearest(key, vars(config))
            fix = f"did you mean {close}=…?" if close else "write name=value,name=value"
            raise Refusal(f"{config.model_type} has no setting {key!r}", WHERE, fix)
        changes[key] = _typed(config, key, value.strip())
    return changes


def _has(config: "PretrainedConfig", key: str) -> bool:
    """Whether the configuration has this setting; methods and private names are none."""
    if key.startswith("_"):
        return False
    try:
        return hasattr(config, key) and not callable(getattr(config, key))
    except Exception as error:  # each layer has its own value of this setting
        raise Refusal(f"{key}: {reason(error)}", WHERE, FROM_A_FOLDER) from None


def _typed(config: "PretrainedConfig", key: str, value: str) -> bool | int | float | str | None:
    """Converts a value to the type of its setting, or refuses it."""
    known = getattr(config, key)
    if known is None:
        return _guessed(value)
    if isinstance(known, str):
        return value
    kind = _kind(known)
    if kind is None:
        raise Refusal(f"{key} is no single value but {known!r:.60}", WHERE, FROM_A_FOLDER)
    try:
        found = TRUTHS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        what, fix = f"{key}={value}: not {KINDS[kind]}", f"{key}={known} is the default"
        raise Refusal(what, WHERE, fix) from None
    if kind is int and found < 1 <= known and SIZE.search(key):
        fix = f"give 1 or more; {known} is the default"
        raise Refusal(f"{key}={value} leaves nothing of the model", WHERE, fix)
    return found


def _kind(value: object) -> type | None:
    for kind in KINDS:
        if isinstance(value, kind):
            return kind
    return None


def _guessed(value: str) -> bool | int | float | str | None:
    """Converts the value of a setting whose type is unknown: a number where it looks like one.

    GPT-2's n_inner is None by default: n_inner=64 is a number.
    """
    if value.lower() in CONSTANTS:
        return CONSTANTS[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def derived(default: "PretrainedConfig", changes: dict[str, Any]) -> dict[str, int]:
    """Returns the number of key and value heads for a changed number of attention heads.

    Numbers that are equal by default stay equal. Otherwise the default number stays if it divides
    the attention heads; else the default ratio stays. (Qwen 3 has 32 key and value heads, whatever
    num_attention_heads says.)
    """
    names = getattr(default, "attribute_map", {})
    values = default.to_dict()
    changed = {names.get(key, key): value for key, value in changes.items()}
    heads = changed.get(HEADS)
    default_shared = values.get(SHARED)
    default_heads = values.get(names.get(HEADS, HEADS))
    if SHARED in changed or not (heads and default_shared and default_heads):
        return {}
    if default_shared != default_heads and heads % default_shared == 0:
        return {}
    share = heads * default_shared // default_heads
    return {SHARED: math.gcd(heads, max(share, 1))}


def fitting(config: "PretrainedConfig") -> str:
    """Returns the sizes that must fit each other, as `name=value, …`, the likeliest first."""
    values = config.to_dict()
    found = []
    for key, value in values.items():
        if value is None and "experts" in key:  # DeepSeek V2's
            found.append(f"{key}=None")
    for mark in FITTING:
        for key, value in values.items():
            if type(value) is int and value > 0 and re.search(mark, key):
                found.append(f"{key}={value}")
    different = list(dict.fromkeys(found))
    return ", ".join(different[:6])
