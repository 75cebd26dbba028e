"""Copies a recipe, with its configurations and its test, as the beginning of a user's own.

The copy runs as it is.
"""

import re
import shutil
from pathlib import Path

from recipes.common.launch import ROOT
from recipes.common.runtime.errors import Refusal

NAME = re.compile(r"[a-z][a-z0-9_]*")
# What a copy needs to run where there is no clone.
HOUSE = (
    "recipes/__init__.py",
    "recipes/common",
    "tests/conftest.py",
    "requirements.txt",
    "requirements-dev.txt",
    "pyproject.toml",
    "LICENSE",
)


def new(name: str, run: Path, directory: Path) -> list[Path]:
    """Copies the recipe of `run` to `directory`/recipes/`name` and returns the written paths.

    Nothing that exists is changed.
    """
    if not NAME.fullmatch(name) or name == "common":
        fix = "use small letters, digits and underscores, for example my_reviews"
        raise Refusal(f"{name!r} cannot be a recipe's name", "NAME", fix)
    target, old = directory / "recipes" / name, run.parent.name
    if target.exists():
        fix = "choose another name, or delete that folder"
        raise Refusal(f"{target} exists already", "NAME", fix)
    if directory.resolve() != ROOT:
        _copy_house(directory, run)
    target.mkdir(parents=True)
    written = []
    for path in sorted(run.parent.iterdir()):
        if path.is_file():
            written.append(_copy(path, target / path.name, old, name))
    tests = Path("tests/recipes")
    test = ROOT / tests / f"test_{old}.py"
    if test.exists():
        (directory / tests).mkdir(parents=True, exist_ok=True)
        written.append(_copy(test, directory / tests / f"test_{name}.py", old, name))
    return written


def _copy(source: Path, target: Path, old: str, name: str) -> Path:
    """Copies a file, changes the recipe's name in its commands and paths, and returns the copy.

    The names of the samples stay.
    """
    text = source.read_text(encoding="utf-8")
    for before in (f"recipes/{old}", f"outputs/{old}", f"finetune {old}", f'RECIPE = "{old}"'):
        text = text.replace(before, before.replace(old, name))
    target.write_text(text, encoding="utf-8")
    return target


def _copy_house(directory: Path, run: Path) -> None:
    """Copies what a recipe needs outside of a clone, and the samples that its config.yaml names."""
    configuration = (run.parent / "config.yaml").read_text(encoding="utf-8")
    samples = sorted(set(re.findall(r"samples/\w+", configuration)))
    for name in (*HOUSE, *samples):
        source, target = ROOT / name, directory / name
        if target.exists() or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
