"""Standard streams that a run outlives: a reader that goes away, a terminal that is closed or knows few letters."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOBODY = {errno.EPIPE, errno.EIO, errno.ENXIO}  # reads a standard stream any more


@contextmanager
def standard(outlive_reader: bool) -> Iterator[None]:
    """Standard streams take every letter, whatever the terminal's encoding; what nobody reads any more is lost."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    lasting = [stream and Lasting(stream) for stream in before]
    if outlive_reader:
        sys.stdout, sys.stderr = lasting
    try:
        yield
    finally:
        for stream in filter(None, lasting):
            stream.flush()
        sys.stdout, sys.stderr = before


def _go_on_without(stream: Any, error: OSError) -> None:
    if error.errno not in NOBODY:
        raise error
    lose(stream)


def lose(stream: Any) -> None:
    """From now on what is written to the stream goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Lasting:
    """A standard stream whose reader may go away (`| head -1`, a terminal that is closed) without an error."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes as long as somebody reads."""
        try:
            return self._stream.write(text)
        except OSError as error:
            _go_on_without(self._stream, error)
            return len(text)

    def flush(self) -> None:
        """Passes on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            _go_on_without(self._stream, error)
