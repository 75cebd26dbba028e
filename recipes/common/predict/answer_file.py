"""Writes the answers of a model into a file of JSON lines."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from recipes.common.runtime.errors import Refusal

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

Row = dict[str, Any]


@contextmanager
def rows_to(path: Path | None, read: Path | None = None) -> Iterator[Callable[[Row], None]]:
    """Yields a function that writes a row into a file of JSON lines.

    The file replaces what is at `path` when all rows are written. If the program is stopped before,
    the rows so far are in PATH.part. Refuses a folder, and the file that is `read` meanwhile.
    """
    if path is None:
        yield _write_nowhere
        return
    if path.is_dir() or (read and path.exists() and path.samefile(read)):
        what = "a folder" if path.is_dir() else "the file that is read"
        raise Refusal(f"{path} is {what}", "--output", "name another file")
    part = path.with_name(f"{path.name}.part")
    _begin(part, path)
    with part.open("a", encoding="utf-8", buffering=1) as stream:
        _keep_others_out(stream, path)
        stream.truncate(0)  # rows of a process that was killed
        try:
            yield partial(_write_row, stream)
            stream.flush()
            if fcntl:  # while it is locked
                part.replace(path)
        finally:
            if fcntl and part.exists() and not part.stat().st_size:
                part.unlink()
    if not fcntl:  # Windows renames no open file
        part.replace(path)


def _write_row(stream: IO, row: Row) -> None:
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_nowhere(row: Row) -> None:
    return


def _begin(part: Path, path: Path) -> None:
    """Makes the file of the rows so far, and its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except (FileExistsError, NotADirectoryError) as error:
        what = f"cannot write below {error.filename}: it is not a folder"
        raise Refusal(what, f"--output {path}", "name another") from None
    except (IsADirectoryError, PermissionError) as error:
        what = f"cannot write: {error.strerror}"
        raise Refusal(what, f"--output {path}", "name another file") from None


def _keep_others_out(stream: IO, path: Path) -> None:
    """Locks the file, where there are locks."""
    try:
        if fcntl:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fix = "wait for it, or name another file"
        raise Refusal(f"another process writes {path}", "--output", fix) from None
    except OSError:  # the file system has no locks
        return
