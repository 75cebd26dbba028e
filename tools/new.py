"""A recipe of one's own: a copy of an existing one, with its configurations and its test, that runs as it stands."""

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
)
HOUSE += ("pyproject.toml", "LICENSE")


def new(name: str, run: Path, directory: Path) -> list[Path]:
    """Copies the recipe of `run` to `directory`/recipes/`name`; the paths written. Nothing existing is touched."""
    if not NAME.fullmatch(name) or name == "common":
        fix = "small letters, digits and underscores, for example my_reviews"
        raise Refusal(f"{name!r} cannot be a recipe's name", "NAME", fix)
    target, old = directory / "recipes" / name, run.parent.name
    if target.exists():
        raise Refusal(
            f"{target} exists already", "NAME", "choose another name, or delete that folder"
        )
    outside = directory.resolve() != ROOT
    if outside:
        _copy_house(directory, run)
    target.mkdir(parents=True)
    written = [
        _copy(path, target / path.name, old, name)
        for path in sorted(run.parent.iterdir())
        if path.is_file()
    ]
    test = ROOT / "tests" / f"test_{old}.py"
    if test.exists():
        (directory / "tests").mkdir(exist_ok=True)
        written.append(_copy(test, directory / "tests" / f"test_{name}.py", old, name))
    return written


def _copy(source: Path, target: Path, old: str, name: str) -> Path:
    """The file with the recipe's own name changed in its commands and paths; the samples keep theirs."""
    text = source.read_text(encoding="utf-8")
    for before in (f"recipes/{old}", f"outputs/{old}", f"finetune {old}", f'RECIPE = "{old}"'):
        text = text.replace(before, before.replace(old, name))
    target.write_text(text, encoding="utf-8")
    return target


def _copy_house(directory: Path, run: Path) -> None:
    samples = set(
        re.findall(r"samples/\w+", (run.parent / "config.yaml").read_text(encoding="utf-8"))
    )
    for name in (*HOUSE, *sorted(samples)):
        source, target = ROOT / name, directory / name
        if target.exists() or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
