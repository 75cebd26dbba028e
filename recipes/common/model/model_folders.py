"""Reads a model's folder: nothing outside of it, and no code. Refuses damage in one line."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import logging

from recipes.common.runtime import upstream
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.links import check_inside
from recipes.common.runtime.messages import did_you_mean, reason

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# A folder beside adapters, with the configuration (labels, …) of their base model.
ADAPTED = "config"
NOT_THERE = (
    "check the name or path and the network; a folder needs config.json, weights and tokenizer"
    " files"
)


def named(name: str, flag: str) -> str:
    """Returns the folder that a name means, with ~ resolved; for a name on the Hub, the name.

    Refuses a path without a folder. Otherwise the Hub would be asked for it, and the error would be
    about a network.
    """
    expanded = os.path.expanduser(name)
    path = Path(expanded)
    if path.is_dir():
        return expanded
    if path.exists():
        fix = f"name its folder: {path.parent}"
        raise Refusal(f"{name} is a file, not a checkpoint", flag, fix)
    if name.startswith((".", "/", "~")) or len(path.parts) > 2:
        fix = "check the path; it is relative to the current folder"
        raise Refusal(f"no folder {name}", flag, near(path) or fix)
    return name


def near(path: Path) -> str:
    """Returns a hint for a mistyped path: the folder that it may mean, or those beside it.

    Returns "" where its parent is no folder.
    """
    if len(path.parts) == 1 or not path.parent.is_dir():
        return ""
    beside = sorted(str(found) for found in path.parent.iterdir() if found.is_dir())
    some = ", ".join(beside[:5]) or "no folders"
    return did_you_mean(str(path), beside, f"{path.parent} holds {some}")


def load(auto_class: type, name: str, flag: str, trust_remote_code: bool, **options: Any) -> Any:
    """Calls from_pretrained of a folder or a name on the Hub.

    Code that comes with it is run only with `trust_remote_code`.
    """
    check(Path(name), flag)
    _check_kernel(name, flag, trust_remote_code, options.get("config"))
    quiet = nullcontext()
    if options.get("output_loading_info"):
        # The caller gets the list of missing weights, and checks it.
        quiet = without_report()
    try:
        with quiet:
            return auto_class.from_pretrained(name, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # each library raises its own for a missing or damaged file
        if isinstance(error, torch.OutOfMemoryError) or disk_error(error):
            raise
        raise _refusal(error, name, flag) from None


def _check_kernel(
    name: str, flag: str, trust_remote_code: bool, config: "PretrainedConfig | None"
) -> None:
    """Refuses a configuration whose attention is a kernel of the Hub, for a kernel is code."""
    attention = upstream.attention_of(config)
    if "/" in attention and not trust_remote_code:
        what = f"{name} wants to run a kernel of the Hub: {attention}"
        raise Refusal(what, flag, "leave attn_implementation out of its config.json")


def _refusal(error: Exception, name: str, flag: str) -> Refusal:
    """Returns what to say about an error of from_pretrained."""
    if isinstance(error, RuntimeError) and "mismatch" in str(error):
        what = f"the checkpoint {name} does not fit this task's sizes"
        fix = "add --ignore_mismatched_sizes for a new head, or choose another checkpoint"
        return Refusal(what, flag, fix)
    if isinstance(error, RuntimeError) and "automatic conversion of the weights" in str(error):
        what = f"{name} lacks weights of the model that transformers merges into one"
        return Refusal(what, flag, "copy or download it again")
    fix = NOT_THERE
    if not Path(name).is_dir():
        fix = near(Path(name)) or NOT_THERE
    return Refusal(f"cannot load {name}: {reason(error)}", flag, fix)


@contextmanager
def without_report() -> Iterator[None]:
    """Keeps transformers from printing its table of missing and unexpected weights.

    The table alarms where all is well: with a model of another task, or a head that comes with
    adapters.
    """
    level = logging.get_verbosity()
    logging.set_verbosity(max(level, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(level)


def check(folder: Path, flag: str) -> None:
    """Refuses a folder whose links, or list of weights, lead out of it.

    Links of the Hub's cache lead to its own blobs.
    """
    if not folder.is_dir():
        return
    checked = []
    for path in folder.iterdir():
        if path.is_symlink() and (path.is_file() or path.name == ADAPTED):
            checked.append(path)
    check_inside(folder, [*checked, *_weights(folder)], flag)


def _weights(folder: Path) -> list[Path]:
    """Returns the files that the folder's lists of weights name.

    A list that cannot be read is refused later, by the code that loads it.
    """
    found = []
    for index in folder.glob("*.index.json"):
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            found += [folder / name for name in names]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found
