"""A folder of files is whole or it is not there: listed in a manifest with their SHA-256, renamed at the end."""

import json
import os
from pathlib import Path

from recipes.common.runtime.hashing import content_hash
from recipes.common.runtime.safe_folders import delete

MANIFEST = "manifest.json"
OUTGOING = ".removing-"


def publish(staged: Path, final: Path) -> None:
    """Writes the manifest, forces all to disk, and renames `staged` to `final`: to be called by one process only.

    Whoever stops it in between finds the earlier `final`, or the whole new one beside its place.
    """
    _seal(staged)
    remove(final)
    staged.rename(final)
    _sync(final.parent)


def publish_once(staged: Path, final: Path) -> None:
    """As `publish`, but a whole `final` stays: another process has written the same in the meantime, and reads it."""
    _seal(staged)
    try:
        staged.rename(final)
    except OSError:
        if not damage(final):
            return
        remove(final)
        staged.rename(final)
    _sync(final.parent)


def _seal(staged: Path) -> None:
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    entries = {str(path.relative_to(staged)): entry(path) for path in files}
    for path in [*files, *(path for path in staged.rglob("*") if path.is_dir())]:
        _sync(path)
    unfinished = staged / f"{MANIFEST}.new"
    unfinished.write_text(_text(entries), encoding="utf-8")
    _sync(unfinished)
    unfinished.rename(staged / MANIFEST)
    _sync(staged)


def remove(folder: Path) -> None:
    """Deletes a folder: its name is gone at once, its files follow."""
    if folder.exists():
        outgoing = folder.with_name(f"{OUTGOING}{folder.name}")
        delete(outgoing)
        folder.rename(outgoing)
        delete(outgoing)


def damage(folder: Path) -> str:
    """What is wrong with a published folder, in words; empty where every file is the one that the manifest lists."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        entries = json.loads(text)["files"]
        listed = {name: (one["bytes"], one["sha256"]) for name, one in entries.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"
    if text != _text(entries):  # a line that stands twice, say, is JSON all the same
        return f"{MANIFEST} is damaged"
    if (folder / MANIFEST).is_symlink():
        return f"{MANIFEST} is a link"
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    found = {str(path.relative_to(folder)) for path in files} - {MANIFEST}
    if not listed or found != set(listed):
        differing = sorted(found ^ set(listed))
        return (
            f"{differing[0]} is {'extra' if differing[0] in found else 'missing'}"
            if differing
            else "it is empty"
        )
    for name, (size, digest) in listed.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != size or content_hash(path) != digest:
            return f"{name} has another content than when it was written"
    return ""


def intact(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size and SHA-256, and no other."""
    return folder.is_dir() and not damage(folder)


def _text(entries: dict[str, dict[str, int | str]]) -> str:
    return json.dumps({"files": entries}, indent=2)


def entry(path: Path) -> dict[str, int | str]:
    """What a manifest says of a file."""
    return {"bytes": path.stat().st_size, "sha256": content_hash(path)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
