"""A file -> its bytes, unpacked where its name says so: gzip, bzip2, xz, Zstandard and zip; bombs are refused."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from recipes.common.runtime.errors import Refusal

RATIO, FLOOR = (
    200,
    1 << 25,
)  # gzip packs text to a fifth, and at best to a thousandth; small files may do so
BROKEN = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
# How the files begin that each packing makes.
BEGINNINGS = {
    "gz": b"\x1f\x8b",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ",
    "zst": b"\x28\xb5\x2f\xfd",
    "zip": b"PK",
}
TITLES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "Zstandard", "zip": "zip"}
BESIDE = ("readme", "license", "licence", "changelog")  # what lies in an archive beside its data


def packing(path: Path) -> str:
    """How the file is packed, by its ending: gz, bz2, xz, zst or zip; an empty string where it is not."""
    ending = path.suffix.lower().removeprefix(".")
    return ending if ending in BEGINNINGS else ""


def content_name(path: Path) -> str:
    """The name of what is packed, without the packing's ending; of a zip archive that of its one file."""
    if packing(path) == "zip" and path.is_file():
        return Path(_member(path, path.stat().st_mtime_ns)).name
    return path.stem if packing(path) else path.name


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked; refuses a broken file, and one that unpacks to more than RATIO times its size."""
    if not packing(path):
        return path.open("rb")
    return _buffered(path, packing(path))


def check_ratio(path: Path) -> None:
    """Refuses a gzip file, whatever its name, that unpacks to more than it should; reads it once."""
    with _buffered(path, "gz") as stream:
        for _ in iter(partial(stream.read, FLOOR), b""):
            pass


def bomb(path: Path) -> Refusal:
    """The refusal of a file that holds out of all proportion to its size."""
    return Refusal(
        f"it unpacks to more than {RATIO} times its size",
        str(path),
        "unpack it yourself, if you know what it is",
    )


def _buffered(path: Path, kind: str) -> BinaryIO:
    return io.BufferedReader(
        _Unpacked(path, kind), FLOOR
    )  # so much is unpacked, and looked at, before the first row


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file, as long as there are less than RATIO times as many as were read for them."""

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
            raise io.UnsupportedOperation("what is unpacked is read from its beginning")
        self._file.close()
        self._begin()
        return 0

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except BROKEN as error:
            raise self._broken(error) from None
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given >= max(FLOOR, RATIO * self._file.tell()):
            raise bomb(self._path)
        return len(data)

    def _broken(self, error: Exception) -> Exception:
        if getattr(error, "errno", None):  # of the disk, not of the file
            return error
        with self._path.open("rb") as stream:
            is_packed = stream.read(8).startswith(BEGINNINGS[self._kind])
        name = self._path.name if is_packed else self._path.stem
        fix = (
            "pack or download the file again"
            if is_packed
            else f"it is not packed at all: rename it to {name}"
        )
        if "too much memory" in str(error):  # Zstandard's long distance matching
            fix = f"it was packed by zstd --long: zstd -d --long=31 {name}"
        return Refusal(f"the {TITLES[self._kind]} data is broken: {error}", str(self._path), fix)

    def close(self) -> None:
        self._file.close()
        super().close()


def _stream(file: BinaryIO, path: Path, kind: str) -> Any:
    """What `read` unpacks the file by; pyarrow brings Zstandard along, which Python has from 3.14 on."""
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
    """The one file of a zip archive; notes beside it, and what macOS adds, do not count."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, ValueError) as error:
        raise Refusal(
            f"the zip data is broken: {error}", str(path), "pack or download the file again"
        ) from None
    found = list(_data_names(names))
    if len(found) != 1:
        what = f"the archive holds {len(found) or 'no'} files: {', '.join(found[:5])}"
        raise Refusal(what, str(path), f"unzip {path.name}, and name the file that is meant")
    return found[0]


def _data_names(names: list[str]) -> Iterator[str]:
    for name in names:
        last = name.rpartition("/")[2].lower()
        if not (
            name.startswith("__MACOSX/") or last.startswith((".", *BESIDE)) or last.endswith(".pdf")
        ):
            yield name
