"""Reports when torch compiles an extension, and starts over where a compiling process was killed.

torch compiles an extension at its first use. Meanwhile a file `lock` lies in the extension's
folder. Every other process waits until that file is gone. A process that is killed never
removes it, and the others would wait for ever.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from torch.utils.file_baton import FileBaton

from recipes.common.runtime import upstream
from recipes.common.runtime.messages import note

QUIET = 300  # seconds; a living compiler writes something more often, on any machine


class Lock(FileBaton):
    """Locks an extension that torch compiles. The lock names the process that made it."""

    fd: Any  # a descriptor or None; torch's own type of it knows only None

    def try_acquire(self) -> bool:
        """Returns whether this process must compile.

        Waits while another process compiles. Compiles itself where that process is gone.
        """
        path = Path(self.lock_file_path)
        said = False
        while not self._create():
            if owner_is_gone(path):
                note(f"{path} was left by a process that is gone: compiling again")
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
        owner = f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time()}"
        os.write(self.fd, owner.encode())
        return True

    def release(self) -> None:
        """Removes the lock, unless another process has already removed it."""
        with suppress(FileNotFoundError):
            super().release()


def owner_is_gone(path: Path) -> bool:
    """Whether the process that made a lock has ended.

    The lock names that process. If it names none, or one of another machine, the process counts as
    gone when nothing has changed in its folder for minutes and no process here holds the lock open.
    """
    try:
        words = path.read_text(encoding="utf-8").split()
        newest = max(map(os.path.getmtime, path.parent.iterdir()))
    except (OSError, ValueError):  # the lock has just been removed
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
    """Makes torch compile under this module's lock from now on."""
    upstream.lock_extensions_by(Lock)
