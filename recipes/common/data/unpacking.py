"""Reads a file's bytes, and unpacks them where its name says so; refuses bombs.

It unpacks gzip, bzip2, xz, Zstandard and zip.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from recipes.common.runtime.errors import Refusal

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# gzip packs text to a fifth, at best to a thousandth. Up to FLOOR bytes any ratio is allowed.
RATIO, FLOOR = 200, 1 << 25
BROKEN = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
# The first bytes of a file of each packing.
BEGINNINGS = {
    "gz": b"\x1f\x8b",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ",
    "zst": b"\x28\xb5\x2f\xfd",
    "zip": b"PK",
}
TITLES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "Zstandard", "zip": "zip"}
BESIDE = ("readme", "license", "licence", "changelog")  # what is in an archive beside its data


def packing(path: Path) -> str:
    """Returns how the file is packed, by its ending: gz, bz2, xz, zst or zip.

    Returns an empty string where it is not packed.
    """
    ending = path.suffix.lower().removeprefix(".")
    return ending if ending in BEGINNINGS else ""


def content_name(path: Path) -> str:
    """Returns the file's name without the packing's ending. For zip, returns the name inside."""
    if not packing(path):
        return path.name
    if packing(path) == "zip" and path.is_file():
        return Path(_member(path, path.stat().st_mtime_ns)).name
    return path.stem


def open_bytes(path: Path) -> BinaryIO:
    """Opens the file's bytes, unpacked.

    Refuses a broken file, and one that unpacks to more than RATIO times its size.
    """
    if not packing(path):
        return path.open("rb")
    return _buffered(path, packing(path))


def check_ratio(path: Path) -> None:
    """Refuses a gzip file, whatever its name, that unpacks to too much; reads it once."""
    with _buffered(path, "gz") as stream:
        for _ in iter(partial(stream.read, FLOOR), b""):
            pass


def bomb(path: Path) -> Refusal:
    """Returns the refusal of a file that unpacks to far more than its size."""
    what = f"it unpacks to more than {RATIO} times its size"
    return Refusal(what, str(path), "unpack it yourself, if you know what it is")


def _buffered(path: Path, kind: str) -> BinaryIO:
    # FLOOR bytes are unpacked, and their size is checked, before the first row.
    return io.BufferedReader(_Unpacked(path, kind), FLOOR)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Unpacked(io.RawIOBase):
    """Streams the unpacked bytes of a packed file.

    It refuses to give RATIO times as many bytes as it has read.
    """

    def __init__(self, path: Path, kind: str):
        self._path, self._kind = path, kind
        self._begin()

    def _begin(self) -> None:
        self._file, self._given = self._path.open("rb"), 0
        try:
            self._stream = _stream(self._file, self._path, self._kind)
        except BROKEN as error:
            raise self._broken(error) from None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._given

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset or whence != io.SEEK_SET:
            raise io.UnsupportedOperation("an unpacked stream is read from its beginning only")
        self._file.close()
        self._begin()
        return 0

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer)
        try:
            data = self._stream.read(len(room))
        except BROKEN as error:
            raise self._broken(error) from None
        room[: len(data)] = data
        self._given += len(data)
        if self._given >= max(FLOOR, RATIO * self._file.tell()):
            raise bomb(self._path)
        return len(data)

    def _broken(self, error: Exception) -> Exception:
        """Returns the refusal of a broken file; returns an error of the disk as it is."""
        if getattr(error, "errno", None):
            return error
        with self._path.open("rb") as stream:
            is_packed = stream.read(8).startswith(BEGINNINGS[self._kind])
        if "too much memory" in str(error):  # Zstandard's long distance matching
            fix = f"it was packed by zstd --long: zstd -d --long=31 {self._path.name}"
        elif is_packed:
            fix = "pack or download the file again"
        else:
            fix = f"it is not packed at all: rename it to {self._path.stem}"
        return Refusal(f"the {TITLES[self._kind]} data is broken: {error}", str(self._path), fix)

    def close(self) -> None:
        self._file.close()
        super().close()


def _stream(file: BinaryIO, path: Path, kind: str) -> _Readable:
    """Opens a stream of the unpacked bytes.

    pyarrow brings Zstandard along, which Python has from 3.14 on.
    """
    if kind == "zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    if kind == "zip":
        return zipfile.ZipFile(file).open(_member(path, path.stat().st_mtime_ns))
    if kind == "gz":
        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if kind == "bz2" else lzma.LZMAFile(file)


@lru_cache(maxsize=1024)
def _member(path: Path, _changed: int) -> str:
    """Returns the name of the one file in a zip archive.

    Notes beside it, and what macOS adds, do not count.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError) as error:
        what = f"the zip data is broken: {error}"
        raise Refusal(what, str(path), "pack or download the file again") from None
    found = list(filter(_is_data, names))
    if len(found) != 1:
        what = f"the archive holds {len(found) or 'no'} files: {', '.join(found[:5])}"
        raise Refusal(what, str(path), f"unzip {path.name}, and name the file that is meant")
    return found[0]


def _is_data(name: str) -> bool:
    """Whether a name in an archive is that of a file of data."""
    if name.startswith("__MACOSX/") or name.endswith("/"):
        return False
    last = name.rpartition("/")[2].lower()
    return not (last.startswith((".", *BESIDE)) or last.endswith(".pdf"))
