"""A model's folder -> what lies in it: nothing outside is read, no code is run, damage is refused in one line."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from recipes.common.errors import Refusal, disk_error, reason

ADAPTED = "config"  # the folder, beside an adapter, with the configuration (labels, …) of the model under it


def load(auto_class: Any, name: str, flag: str, trust_remote_code: bool, **options: Any) -> Any:
    """from_pretrained of a folder or a name on the Hub; code that comes with it is run only where that is allowed."""
    check(Path(name), flag)
    config = options.get("config")
    if "/" in str(getattr(config, "_attn_implementation", "")) and not trust_remote_code:
        what = f"{name} wants to run a kernel of the Hub: {config._attn_implementation}"
        raise Refusal(what, flag, "leave attn_implementation out of its config.json")
    try:
        return auto_class.from_pretrained(name, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # each library raises its own for a missing or damaged file
        if isinstance(error, torch.OutOfMemoryError) or disk_error(error):
            raise
        if isinstance(error, RuntimeError) and "mismatch" in str(error):
            what = f"the checkpoint {name} does not fit this task's sizes"
            raise Refusal(what, flag, "a new head: --ignore_mismatched_sizes; otherwise another checkpoint") from None
        fix = "check the name or path and the network; a folder needs config.json, weights and tokenizer files"
        raise Refusal(f"cannot load {name}: {reason(error)}", flag, fix) from None


def check(folder: Path, flag: str) -> None:
    """Refuses a folder whose links, or list of weights, lead out of it; the Hub's cache links to its own blobs."""
    if not folder.is_dir():
        return
    links = [path for path in folder.iterdir() if path.is_symlink() and (path.is_file() or path.name == ADAPTED)]
    check_inside(folder, [*links, *_weights(folder)], flag)


def check_inside(folder: Path, paths: Iterable[Path], flag: str) -> None:
    """Refuses a path that leads out of the folder."""
    home = folder.resolve()
    home = home.parents[1] if home.parent.name == "snapshots" else home
    for path in paths:
        if not path.resolve().is_relative_to(home):
            fix = "copy the file into the folder, if you know what it is"
            raise Refusal(f"{path.name} leads out of {folder}: {path.resolve()}", flag, fix)


def _weights(folder: Path) -> list[Path]:
    """The files that the folder's lists of weights name; a list that cannot be read is left to who loads it."""
    found = []
    for index in folder.glob("*.index.json"):
        try:
            found += [folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found
