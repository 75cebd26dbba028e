"""What libraries compile at their first use: said while it is done or waited for, and begun anew where it was killed.

torch compiles an extension under a file `lock` in its folder, and waits without end for whoever has made that file: a
process that was killed never removes it.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil
from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from recipes.common.runtime.messages import note

QUIET = 300  # seconds in which a live compiler writes something, on whatever machine it runs


class Lock(FileBaton):
    """torch's lock of an extension that is compiled, with its owner's name in it."""

    def try_acquire(self) -> bool:
        """Whether this process is to compile; waits while another one does, and takes over where that one is gone."""
        path, said = Path(self.lock_file_path), False
        while not self._create():
            if owner_is_gone(path):
                note(f"{path} was left by a process that is gone: compiling anew")
                path.unlink(missing_ok=True)
                continue
            if not said:
                note(f"waiting for another process that compiles {path.parent.name} ({path})")
                said = True
            time.sleep(self.wait_seconds)
            if not path.exists():
                return False
        if not any(path.parent.glob("*.so")):
            note(f"compiling {path.parent.name}: this takes a minute or two, once")
        return True

    def _create(self) -> bool:
        try:
            self.fd = os.open(self.lock_file_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(
            self.fd,
            f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time()}".encode(),
        )
        return True

    def release(self) -> None:
        """Removes the lock, unless another process took it for left over."""
        with suppress(FileNotFoundError):
            super().release()


def owner_is_gone(path: Path) -> bool:
    """Whether the process that made a lock has ended: by the name in it, or, where it says nothing or is of another
    machine, because nothing has changed in its folder for minutes and no process here holds it open."""
    try:
        words = path.read_text(encoding="utf-8").split()
        newest = max(file.stat().st_mtime for file in path.parent.iterdir())
    except (OSError, ValueError):  # it has just been removed
        return False
    if len(words) == 3 and words[0] == socket.gethostname():
        return not _lives(int(words[1]), float(words[2]))
    return time.time() - newest > QUIET and not _is_open(path)


def _lives(number: int, created: float) -> bool:
    try:
        process = psutil.Process(number)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_open(path: Path) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(Path(file.path) == path for file in process.open_files()):
                return True
    return False


def watch() -> None:
    """From now on torch compiles under this module's lock."""
    cpp_extension.FileBaton = Lock
