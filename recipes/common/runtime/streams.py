"""Keeps a run alive when nobody reads its output, and when a terminal cannot show every letter."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

NOBODY = {errno.EPIPE, errno.EIO, errno.ENXIO}  # errors of a stream that nobody reads any more


@contextmanager
def standard(outlive_reader: bool) -> Iterator[None]:
    """Lets the standard streams take every letter, whatever the terminal's encoding is.

    With `outlive_reader`, output that nobody reads any more is lost without an error.
    """
    before = sys.stdout, sys.stderr
    lasting = []
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if stream is not None:
            stream = Lasting(stream)
        lasting.append(stream)
    if outlive_reader:
        sys.stdout, sys.stderr = lasting
    try:
        yield
    finally:
        for stream in filter(None, lasting):
            stream.flush()
        sys.stdout, sys.stderr = before


def lose(stream: TextIO) -> None:
    """Sends to nowhere what is written to the stream from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Lasting:
    """Lets a standard stream outlive its reader: `| head -1`, or a terminal that is closed."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes as long as somebody reads."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Passes on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno not in NOBODY:
            raise error
        lose(self._stream)
