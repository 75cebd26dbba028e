"""A model's folder -> what lies in it: nothing outside is read, no code is run, damage is refused in one line."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.links import check_inside
from recipes.common.runtime.messages import did_you_mean, reason

ADAPTED = "config"  # the folder, beside an adapter, with the configuration (labels, …) of the model under it

NOT_THERE = "check the name or path and the network; a folder needs config.json, weights and tokenizer files"


def named(name: str, flag: str) -> str:
    """The folder that a name means, with ~ resolved, or the name itself where it is one of the Hub.

    Refuses a path at which there is no folder: the Hub would be asked for it, and the answer would be about a network.
    """
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return os.path.expanduser(name)
    if path.exists():
        raise Refusal(
            f"{name} is a file, not a checkpoint", flag, f"name its folder: {path.parent}"
        )
    if name.startswith((".", "/", "~")) or len(path.parts) > 2:
        fix = "check the path; it is relative to the current folder"
        raise Refusal(f"no folder {name}", flag, near(path) or fix)
    return name


def near(path: Path) -> str:
    """The folder that a mistyped path may mean, or those beside it; "" where nothing is there."""
    if len(path.parts) == 1 or not path.parent.is_dir():
        return ""
    beside = sorted(str(found) for found in path.parent.iterdir() if found.is_dir())
    return did_you_mean(
        str(path), beside, f"{path.parent} holds {', '.join(beside[:5]) or 'no folders'}"
    )


def load(auto_class: Any, name: str, flag: str, trust_remote_code: bool, **options: Any) -> Any:
    """from_pretrained of a folder or a name on the Hub; code that comes with it is run only where that is allowed."""
    check(Path(name), flag)
    config = options.get("config")
    if "/" in str(getattr(config, "_attn_implementation", "")) and not trust_remote_code:
        what = f"{name} wants to run a kernel of the Hub: {config._attn_implementation}"
        raise Refusal(what, flag, "leave attn_implementation out of its config.json")
    checks_weights = options.get(
        "output_loading_info"
    )  # whoever asks for the list of missing weights looks at it
    try:
        with without_report() if checks_weights else nullcontext():
            return auto_class.from_pretrained(name, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # each library raises its own for a missing or damaged file
        if isinstance(error, torch.OutOfMemoryError) or disk_error(error):
            raise
        if isinstance(error, RuntimeError) and "mismatch" in str(error):
            what = f"the checkpoint {name} does not fit this task's sizes"
            raise Refusal(
                what, flag, "a new head: --ignore_mismatched_sizes; otherwise another checkpoint"
            ) from None
        if isinstance(error, RuntimeError) and "automatic conversion of the weights" in str(error):
            what = (
                f"{name} lacks weights of the model: some of those that transformers joins to one"
            )
            raise Refusal(what, flag, "copy or download it again") from None
        missing = "" if Path(name).is_dir() else near(Path(name))
        raise Refusal(f"cannot load {name}: {reason(error)}", flag, missing or NOT_THERE) from None


@contextmanager
def without_report() -> Iterator[None]:
    """Within it transformers shows no table of weights that are missing or left over, which alarms where all is well:
    the body of another task, a head that comes with adapters."""
    level = logging.get_verbosity()
    logging.set_verbosity(max(level, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(level)


def check(folder: Path, flag: str) -> None:
    """Refuses a folder whose links, or list of weights, lead out of it; the Hub's cache links to its own blobs."""
    if not folder.is_dir():
        return
    links = [
        path
        for path in folder.iterdir()
        if path.is_symlink() and (path.is_file() or path.name == ADAPTED)
    ]
    check_inside(folder, [*links, *_weights(folder)], flag)


def _weights(folder: Path) -> list[Path]:
    """The files that the folder's lists of weights name; a list that cannot be read is left to who loads it."""
    found = []
    for index in folder.glob("*.index.json"):
        try:
            found += [
                folder / name
                for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found
