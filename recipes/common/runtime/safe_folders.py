"""Makes folders that live as long as their process, and removes those of killed processes."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

YOUNG = 10  # seconds in which a new folder may not be locked yet
OURS = "trainer-recipes-"  # begins the names of our folders among those of other programs


@contextmanager
def working_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yields a new folder in `parent`, or else where temporary files are.

    The folder is locked while it is used. Afterwards it is deleted, unless it was renamed. Folders
    of the same prefix that no living process has locked are deleted first.
    """
    if parent is None:
        parent = Path(tempfile.gettempdir())
        prefix = f"{OURS}{prefix}"
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
    """Deletes the folders of killed processes in `parent`. Folders of living ones stay."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another process deletes it, or it may not be read
            if fcntl and _is_left(folder):
                delete(folder)


def delete(folder: Path) -> None:
    """Deletes a folder, or as much of it as possible. Deletes a link, but not its target."""
    if folder.is_symlink():
        folder.unlink()
        return
    # If closing a folder fails, Python 3.11 closes it a second time, and then raises an error.
    with suppress(OSError):
        shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether a killed process of this user left the folder."""
    status = folder.lstat()
    is_ours = folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid()
    if not is_ours or time.time() - status.st_mtime < YOUNG:
        return False
    lock = _lock(folder)
    if lock is None:
        return False
    os.close(lock)
    return True


def _lock(folder: Path) -> int | None:
    """Locks the folder and returns the lock's descriptor.

    Returns None if a living process has locked it, or if the file system cannot lock folders.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
