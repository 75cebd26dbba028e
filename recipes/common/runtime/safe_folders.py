"""A folder to write in that lives as long as its process: what a killed one left is removed by the next."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

YOUNG = 10  # seconds in which a folder that was just made may not be locked yet
OURS = "trainer-recipes-"  # how the names of folders begin that are made beside those of other programs


@contextmanager
def working_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, locked while it is used and then deleted, unless it was renamed; in `parent`, or where temporary
    files are. Those of the same prefix that no living process has locked are deleted first."""
    prefix = prefix if parent else f"{OURS}{prefix}"
    parent = parent or Path(tempfile.gettempdir())
    sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _lock(folder)
    try:
        yield folder
    finally:
        delete(folder)
        if lock is not None:
            os.close(lock)


def sweep(parent: Path, prefix: str) -> None:
    """Deletes what killed processes left in `parent`; what a living one writes in stays."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another process deletes it, or it is not ours to look into
            if fcntl and _is_left(folder):
                delete(folder)


def delete(folder: Path) -> None:
    """Deletes a folder, or what can be deleted of it; of a link to one the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        with suppress(
            OSError
        ):  # Python 3.11 closes a folder twice whose closing failed, and raises the second time
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    status = folder.lstat()
    is_ours = folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid()
    if not is_ours or time.time() - status.st_mtime < YOUNG:
        return False
    lock = _lock(folder)
    if lock is not None:
        os.close(lock)
    return lock is not None


def _lock(folder: Path) -> int | None:
    """An open lock on the folder; None where a living process has it, or where the file system locks no folders."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
