"""Keeps prepared tokens on disk under the hash of what they are made of.

They are read by memory map, however large they are.
"""

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
    """Returns the arrays, by name, and the facts that `write` leaves in a folder.

    `write` writes files NAME.bin of int32, and returns the facts. In a `directory` the arrays stay,
    under a name that follows from `made_of` alone: the next run with the same content reads them,
    and writes damaged ones again. Without a directory they stay on disk as long as this process
    reads them.
    """
    if directory is None:
        with working_folder("tokens-") as temporary:
            facts = write(temporary)
            return _mapped(temporary), facts  # a mapped file can be read when its name is gone
    _make(directory)
    folder = Path(directory, _name(made_of))
    if not _is_ready(folder):
        sweep(Path(directory), OUTGOING)
        with working_folder(".preparing-", Path(directory)) as staged:
            (staged / FACTS).write_text(json.dumps(write(staged)), encoding="utf-8")
            publish_once(staged, folder)
    return _mapped(folder), json.loads((folder / FACTS).read_text(encoding="utf-8"))


def _make(directory: str) -> None:
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        what = f"no folder can be there: {error.strerror}"
        raise Refusal(what, "--prepared_dir", "name another") from None


def _name(made_of: dict[str, Any]) -> str:
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_ready(folder: Path) -> bool:
    """Whether the folder holds intact arrays; notes what is wrong with a damaged one."""
    if not folder.exists():
        return False
    found = damage(folder)
    if found:
        note(f"{folder} is prepared again: {found}")
    return not found


def _mapped(folder: Path) -> dict[str, Array]:
    return {path.stem: numpy.memmap(path, dtype=TYPE, mode="r") for path in folder.glob("*.bin")}


def content(texts: Iterable[str]) -> str:
    """Returns a hash of the texts and of the borders between them."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
