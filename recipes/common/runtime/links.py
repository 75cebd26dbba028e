"""Refuses links out of a folder: a downloaded model or data set may read only its own files."""

from collections.abc import Iterable
from pathlib import Path

from recipes.common.runtime.errors import Refusal


def check_inside(folder: Path, paths: Iterable[Path], flag: str) -> None:
    """Refuses a path that leads out of the folder."""
    home = folder.resolve()
    if home.parent.name == "snapshots":  # the Hub's cache: files are links to blobs/ beside it
        home = home.parents[1]
    for path in paths:
        if not path.resolve().is_relative_to(home):
            fix = "copy the file into the folder, if you know what it is"
            raise Refusal(f"{path.name} leads out of {folder}: {path.resolve()}", flag, fix)
