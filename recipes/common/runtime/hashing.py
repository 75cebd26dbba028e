"""Computes the SHA-256 of a file and of a model's folder."""

import hashlib
from fnmatch import fnmatch
from pathlib import Path

# Files in the folder of a run that are no part of its model.
REPORTS = (
    ".*",
    "*.md",
    "run.*",
    "*_results.json",
    "predictions.jsonl",
    "trainer_state.json",
    "not_finite.json",
)


def content_hash(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    """Returns the hash of a file, or of the names and contents of the files in a model's folder.

    Leaves out what a run writes beside its model.
    """
    if path.is_file():
        return content_hash(path)
    digest = hashlib.sha256()
    for found in sorted([*path.glob("*"), *path.glob("config/*")]):
        if found.is_file() and not _is_report(found.name):
            digest.update(f"{found.name}\0{content_hash(found)}\0".encode())
    return digest.hexdigest()


def _is_report(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in REPORTS)
