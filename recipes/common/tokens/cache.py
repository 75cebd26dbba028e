"""Prepared tokens: written to disk once by what they are made of, and read by memory map, however large they are."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy

from recipes.common.checkpoints.atomic_folder import OUTGOING, damage, publish_once
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note
from recipes.common.runtime.safe_folders import sweep, working_folder

FACTS = "facts.json"
TYPE = numpy.int32  # of every array
Array = numpy.ndarray


def arrays(
    directory: str | None, made_of: dict[str, Any], write: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays, by name, and the facts that `write` leaves in a folder: files NAME.bin of int32, and what it returns.

    In a `directory` they stay, under a name that follows from `made_of` alone: the next run with the same content
    reads them, and writes damaged ones again. Without one they stay on disk as long as this process reads them.
    """
    if directory is None:
        with working_folder("tokens-") as temporary:
            facts = write(temporary)
            return _mapped(temporary), facts  # what is mapped can be read when its name is gone
    _make(directory)
    folder = Path(
        directory, hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    )
    found = damage(folder) if folder.exists() else None
    if found:
        note(f"{folder} is prepared again: {found}")
    if found != "":
        sweep(Path(directory), OUTGOING)
        with working_folder(".preparing-", Path(directory)) as staged:
            (staged / FACTS).write_text(json.dumps(write(staged)), encoding="utf-8")
            publish_once(staged, folder)
    return _mapped(folder), json.loads((folder / FACTS).read_text(encoding="utf-8"))


def _make(directory: str) -> None:
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise Refusal(
            f"no folder can be there: {error.strerror}", "--prepared_dir", "name another"
        ) from None


def _mapped(folder: Path) -> dict[str, Array]:
    return {path.stem: numpy.memmap(path, dtype=TYPE, mode="r") for path in folder.glob("*.bin")}


def content(texts: Iterable[str]) -> str:
    """A hash of the texts, with the borders between them."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
