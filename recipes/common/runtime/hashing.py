"""The SHA-256 of a file, and of a folder."""

import hashlib
from fnmatch import fnmatch
from pathlib import Path

# What stands beside a model in the folder of its run, and is no part of it.
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
    """SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    """The hash of a file, or of the names and contents of the files in a model's folder; what a run's report writes
    beside a model counts for nothing."""
    if path.is_file():
        return content_hash(path)
    digest = hashlib.sha256()
    for found in sorted([*path.glob("*"), *path.glob("config/*")]):
        if found.is_file() and not any(fnmatch(found.name, pattern) for pattern in REPORTS):
            digest.update(f"{found.name}\0{content_hash(found)}\0".encode())
    return digest.hexdigest()
