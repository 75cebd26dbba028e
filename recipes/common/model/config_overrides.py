"""--config_overrides: a value in its setting's own type, and the settings that follow from those that are changed."""

import math
import re
from typing import Any

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest, reason

WHERE = "--config_overrides"
FROM_A_FOLDER = "write a config.json with it and name its folder: --config_name FOLDER"
HEADS, SHARED = "num_attention_heads", "num_key_value_heads"
TRUTHS = dict.fromkeys(("true", "1", "y", "yes"), True) | dict.fromkeys(
    ("false", "0", "n", "no"), False
)
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
WORDS = {"none": None, "null": None, "true": True, "false": False}
# Settings whose sizes must fit others, the likeliest first: a refusal names them.
SIZE = re.compile(
    r"(size|dim|heads?|_ff|_kv|d_model|n_embd|n_inner|positions|position_embeddings)$|^[a-z]+(_hidden)?_layers?$"
)
FITTING = (
    "heads?$",
    "^(hidden_size|d_model|n_embd|dim)$",
    "(head_|rotary_|d_)(dim|kv)$",
    "experts",
    "window",
    "dim$",
)


def parse(config: Any, overrides: str) -> dict[str, Any]:
    """`name=value,name=value` -> the values by name, each in the type of the configuration's own value."""
    changes = {}
    for item in overrides.split(","):
        key, equals, value = item.strip().partition("=")
        if not equals or not _has(config, key):
            close = nearest(key, vars(config))
            fix = f"did you mean {close}=…?" if close else "write name=value,name=value"
            raise Refusal(f"{config.model_type} has no setting {key!r}", WHERE, fix)
        changes[key] = _typed(config, key, value.strip())
    return changes


def _has(config: Any, key: str) -> bool:
    try:
        return hasattr(config, key)
    except Exception as error:  # a setting that each layer has for itself
        raise Refusal(f"{key}: {reason(error)}", WHERE, FROM_A_FOLDER) from None


def _typed(config: Any, key: str, value: str) -> Any:
    known = getattr(config, key)
    if (
        known is None
    ):  # nothing says what it takes: a number where it looks like one (GPT-2's n_inner=64)
        return _guessed(value)
    if isinstance(known, str):
        return value
    kind = next((kind for kind in KINDS if isinstance(known, kind)), None)
    if kind is None:
        what = f"{key} is no single value but {known!r:.60}"
        raise Refusal(what, WHERE, FROM_A_FOLDER)
    try:
        found = TRUTHS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise Refusal(
            f"{key}={value}: not {KINDS[kind]}", WHERE, f"{key}={known} is the default"
        ) from None
    if kind is int and found < 1 <= known and SIZE.search(key):
        raise Refusal(
            f"{key}={value} leaves nothing of the model",
            WHERE,
            f"give 1 or more; {known} is the default",
        )
    return found


def _guessed(value: str) -> Any:
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def derived(default: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """What a change of the attention heads asks for: as many key and value heads, or the default's share of them,
    where the default number would not fit (Qwen 3 has 32, whatever num_attention_heads says)."""
    names, values = getattr(default, "attribute_map", {}), default.to_dict()
    changed = {names.get(key, key): value for key, value in changes.items()}
    heads, shared, all_heads = (
        found.get(name)
        for found, name in ((changed, HEADS), (values, SHARED), (values, names.get(HEADS, HEADS)))
    )
    if (
        not (heads and shared and all_heads)
        or SHARED in changed
        or (heads % shared == 0 and shared != all_heads)
    ):
        return {}
    return {SHARED: math.gcd(heads, max(heads * shared // all_heads, 1))}


def fitting(config: Any) -> str:
    """The sizes that must fit each other, as `name=value, …`, the likeliest first."""
    every = config.to_dict()
    values = {key: value for key, value in every.items() if type(value) is int and value > 0}
    missing = [
        f"{key}=None" for key, value in every.items() if value is None and "experts" in key
    ]  # DeepSeek V2's
    found = missing + [
        f"{key}={value}"
        for mark in FITTING
        for key, value in values.items()
        if re.search(mark, key)
    ]
    return ", ".join(list(dict.fromkeys(found))[:6])
