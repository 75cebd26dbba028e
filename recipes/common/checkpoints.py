"""A checkpoint is whole or it is not there: written beside its place, listed in a manifest, renamed at the end."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from recipes.common.errors import note

MANIFEST = "manifest.json"
STAGING = ".saving-"


def publish(staged: Path, final: Path) -> None:
    """Writes the manifest, forces all to disk, and renames `staged` to `final`: to be called by one process only."""
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    entries = {str(path.relative_to(staged)): _entry(path) for path in files}
    (staged / MANIFEST).write_text(json.dumps({"files": entries}, indent=2), encoding="utf-8")
    for path in [*files, staged / MANIFEST, staged]:
        _sync(path)
    if final.exists():
        shutil.rmtree(final)
    staged.rename(final)
    _sync(final.parent)


def intact(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size and SHA-256."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return bool(entries) and all(_entry(folder / name) == entry for name, entry in entries.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def newest(output_dir: Path) -> Path | None:
    """The intact checkpoint of the highest step; damaged ones are passed over, half-written ones removed."""
    for folder in output_dir.glob(f"{STAGING}*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in sorted(all_of(output_dir), key=step, reverse=True):
        if intact(folder):
            return folder
        note(f"{folder} is damaged or incomplete: passed over")
    return None


def all_of(output_dir: Path) -> list[Path]:
    """All folders named checkpoint-N."""
    return [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]


def step(folder: Path) -> int:
    """The optimizer step after which the checkpoint was written."""
    return int(folder.name.removeprefix("checkpoint-"))


def _entry(path: Path) -> dict[str, int | str]:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
