"""Links that lead out of a folder are refused: a model or a data set from elsewhere reads nothing beside itself."""

from collections.abc import Iterable
from pathlib import Path

from recipes.common.runtime.errors import Refusal


def check_inside(folder: Path, paths: Iterable[Path], flag: str) -> None:
    """Refuses a path that leads out of the folder."""
    home = folder.resolve()
    home = home.parents[1] if home.parent.name == "snapshots" else home
    for path in paths:
        if not path.resolve().is_relative_to(home):
            fix = "copy the file into the folder, if you know what it is"
            raise Refusal(f"{path.name} leads out of {folder}: {path.resolve()}", flag, fix)
