"""Publishes folders of files: a folder is whole, or it is not there.

A manifest lists the files with their SHA-256, and the folder gets its name at the end.
"""

import json
import os
from pathlib import Path

from recipes.common.runtime.hashing import content_hash
from recipes.common.runtime.safe_folders import delete

MANIFEST = "manifest.json"
OUTGOING = ".removing-"


def publish(staged: Path, final: Path) -> None:
    """Writes the manifest, forces all to disk, and renames `staged` to `final`.

    Only one process may call it. If it is stopped, the earlier `final` is still there, or the whole
    new folder is beside its place.
    """
    _seal(staged)
    remove(final)
    staged.rename(final)
    _sync(final.parent)


def publish_once(staged: Path, final: Path) -> None:
    """Publishes a folder like `publish`, but leaves a whole `final` as it is.

    Another process has then already written the same folder, and reads it.
    """
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
    """Writes the manifest, and forces the folder and all that lies in it to disk."""
    files, folders = [], []
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            folders.append(path)
    entries = {}
    for path in files:
        entries[str(path.relative_to(staged))] = entry(path)
    for path in [*files, *folders]:
        _sync(path)
    unfinished = staged / f"{MANIFEST}.new"
    unfinished.write_text(_text(entries), encoding="utf-8")
    _sync(unfinished)
    unfinished.rename(staged / MANIFEST)
    _sync(staged)


def remove(folder: Path) -> None:
    """Deletes a folder: first it loses its name, then its files are deleted."""
    if not folder.exists():
        return
    outgoing = folder.with_name(f"{OUTGOING}{folder.name}")
    delete(outgoing)
    folder.rename(outgoing)
    delete(outgoing)


def damage(folder: Path) -> str:
    """Says what is wrong with a published folder.

    Returns "" where every file is the one that the manifest lists.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        entries = json.loads(text)["files"]
        listed = _listed(entries)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"
    if text != _text(entries):  # a repeated line, for example, is valid JSON
        return f"{MANIFEST} is damaged"
    if (folder / MANIFEST).is_symlink():
        return f"{MANIFEST} is a link"
    found = _names_of_files(folder)
    differing = sorted(found ^ set(listed))
    if differing:
        state = "extra" if differing[0] in found else "missing"
        return f"{differing[0]} is {state}"
    if not listed:
        return "it is empty"
    for name, (size, digest) in listed.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != size or content_hash(path) != digest:
            return f"{name} has another content than when it was written"
    return ""


def _listed(entries: dict[str, dict[str, int | str]]) -> dict[str, tuple[int | str, int | str]]:
    """Returns the size and the hash of each file that a manifest lists."""
    return {name: (one["bytes"], one["sha256"]) for name, one in entries.items()}


def _names_of_files(folder: Path) -> set[str]:
    """Returns the paths in a folder of all files and links but the manifest."""
    names = set()
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            names.add(str(path.relative_to(folder)))
    return names - {MANIFEST}


def intact(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size and SHA-256, and no other file."""
    return folder.is_dir() and not damage(folder)


def _text(entries: dict[str, dict[str, int | str]]) -> str:
    return json.dumps({"files": entries}, indent=2)


def entry(path: Path) -> dict[str, int | str]:
    """Returns what a manifest says of a file: its size and its hash."""
    return {"bytes": path.stat().st_size, "sha256": content_hash(path)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
