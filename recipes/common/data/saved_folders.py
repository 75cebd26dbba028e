"""Finds the files of a data set that `save_to_disk` of the datasets library left in a folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"


def splits(folder: Path) -> dict[str, Path]:
    """Returns the folders of the splits, or none for a folder that `save_to_disk` did not write."""
    if (folder / SAVED_SPLITS).is_file():
        return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{SAVED}"))}
    if (folder / SAVED).is_file():
        return {"train": folder}
    return {}


def split_files(folder: Path, present: dict[str, Path], split: Sequence[str]) -> list[Path]:
    """Returns the files of the wanted split, or of the only one."""
    for name in split:
        if name in present:
            return files(present[name])
    first = next(iter(present))
    if len(present) > 1:
        what = f"the folder {folder} holds the splits {', '.join(present)}"
        fix = f"name one of them: {folder}/{first}; or all of them: --dataset_name {folder}"
        raise Refusal(what, str(folder), fix)
    return files(present[first])


def files(folder: Path) -> list[Path]:
    """Returns the Arrow files that Dataset.save_to_disk left, in their order."""
    try:
        state = json.loads((folder / SAVED).read_text(encoding="utf-8"))
        paths = [folder / name for name in upstream.saved_files(state)]
        is_whole = bool(paths) and all(_is_in(folder, path) for path in paths)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        what = "this is not what save_to_disk leaves"
        raise Refusal(what, str(folder / SAVED), "save the data set again")
    return paths


def _is_in(folder: Path, path: Path) -> bool:
    return path.is_file() and path.resolve().parent == folder.resolve()
