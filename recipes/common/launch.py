"""Recipe + flags -> the exact command line; the standard library and errors only, so that it answers at once."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from recipes.common.errors import Refusal, nearest

ROOT = Path(__file__).resolve().parents[2]


def recipes() -> dict[str, Path]:
    """Every folder under recipes/ with a run.py, by name: a recipe is discovered, never registered."""
    return {path.parent.name: path for path in sorted((ROOT / "recipes").glob("*/run.py"))}


def find(name: str, suffix: str = "") -> Path:
    """The run.py of a recipe by its name, `suffix` understood: `mlm` with "_pretrain" finds mlm_pretrain."""
    known = recipes()
    path = known.get(name) or known.get(name + suffix)
    if path is None:
        close = nearest(name, known)
        fix = f"did you mean {close}?" if close else f"recipes: {', '.join(known)}"
        raise Refusal(f"no recipe {name!r}", "recipes/", fix)
    return path


def command(recipe: Path, flags: list[str]) -> list[str]:
    """The words of the command line that runs the recipe with these flags."""
    script = recipe.relative_to(Path.cwd()) if recipe.is_relative_to(Path.cwd()) else recipe
    return [sys.executable, str(script), *flags]


def run(words: list[str], dry_run: bool = False) -> int:
    """Prints the command and becomes it, so that signals and the exit code are its own; a dry run only prints."""
    print("$", shlex.join(["python", *words[1:]]), flush=True)
    if dry_run:
        return 0
    if os.name == "posix":
        os.execv(words[0], words)
    return subprocess.call(words)
