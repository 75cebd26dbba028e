"""Bytes -> lines of text: by the file's own mark, as UTF-8, or as --encoding says; else a guess at what they are."""

import codecs
import io
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from recipes.common.data import unpacking
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, visible, warn

FLAG = "--encoding"
# FF FE is also how UTF-32's mark begins: the longer marks come first.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
LONGEST = (
    1 << 27
)  # bytes of a line, characters of a cell: text8, a well-known corpus, is one line of 10^8
HEAD, SAMPLE = 1 << 16, 1 << 22  # bytes that are looked at for line ends, and for an encoding
GUESSED = 1 << 14  # bytes of lines beyond ASCII by which an encoding is guessed
# Names that people know, and Python does not.
OTHERWISE = {
    "ansi": "cp1252",
    "unicode": "utf-16",
    "utf-8-bom": "utf-8-sig",
    "utf8-bom": "utf-8-sig",
}
# What guesses are called more often: it holds all that the guessed one holds of a usual text.
USUAL = {
    "shift_jis_2004": "cp932",
    "shift_jisx0213": "cp932",
    "shift_jis": "cp932",
    "euc_jis_2004": "euc_jp",
}
USUAL |= {
    "euc_jisx0213": "euc_jp",
    "big5hkscs": "big5",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "euc_kr": "cp949",
}
EAST_ASIAN = {
    "gb18030",
    "big5",
    "cp932",
    "euc_jp",
    "cp949",
    "johab",
    "iso2022_jp",
    "iso2022_kr",
    "hz",
}
OTHER_SCRIPTS = {
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1255",
    "cp1256",
}  # Cyrillic, Greek, Hebrew, Arabic
# How other files than texts begin.
KINDS = {
    b"PK\x03\x04": "a zip archive (Excel's .xlsx is one, too)",
    b"\x1f\x8b": "packed by gzip",
    b"PAR1": "parquet",
}
KINDS |= {
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard",
}
KINDS |= {
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls, .doc)",
    b"SQLite": "a database",
}
POINTER = b"version https://git-lfs.github.com/spec"

_said: set[str] = set()


def lines(path: Path, encoding: str = "") -> Iterator[str]:
    """Decoded lines with their line ends: \\n, \\r\\n, or \\r alone; bytes that do not decode are refused by line.

    A file's own mark, and UTF-8 that is plain to see, win over `encoding`, and a line says so.
    """
    with unpacking.open_bytes(path) as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        used = _encoding(path, head, encoding)
        if not _is_wide(used):
            _check_text(path, head)
            yield from _narrow_lines(path, stream, used, _line_end(head))
            return
        text = _decode(path, stream.read(), used)
        text = text if "\n" in text else text.replace("\r", "\n")
        yield from io.StringIO(text, newline="\n")


def check(encoding: str | None) -> None:
    """Refuses a name that is no encoding's."""
    try:
        "\n".encode(encoding or "utf-8")
    except (LookupError, ValueError):
        fix = f"say {FLAG} {OTHERWISE.get(encoding.lower(), 'utf-8, gb18030, cp1252, …')}"
        raise Refusal(f"no encoding is called {encoding!r}", FLAG, fix) from None


def begin_to_speak() -> None:
    """What `say_once` has said counts as said no more: another run begins."""
    _said.clear()


def say_once(message: str, speak=note) -> None:
    """One line, however often the file is read."""
    if message not in _said:
        _said.add(message)
        speak(message)


def _is_wide(encoding: str) -> bool:
    """Whether a line break is more than one byte, or another one."""
    return encoding != "utf-8-sig" and "\n".encode(encoding) != b"\n"


def _line_end(head: bytes) -> bytes:
    """Old programs for the Macintosh end lines by a carriage return alone."""
    return b"\r" if b"\r" in head and b"\n" not in head else b"\n"


def _narrow_lines(path: Path, stream: BinaryIO, encoding: str, end: bytes) -> Iterator[str]:
    told = "" if encoding.startswith("utf-8") else codecs.lookup(encoding).name
    later = "utf-8" if encoding == "utf-8-sig" else encoding
    found = (
        iter(partial(stream.readline, LONGEST), b"") if end == b"\n" else _returned_lines(stream)
    )
    for number, line in enumerate(found, 1):
        if len(line) >= LONGEST:
            raise Refusal(
                f"a line of more than {LONGEST:,} bytes", f"{path}:{number}", "break it into lines"
            )
        if told and _is_other_line(line, told):
            what = f"this line is UTF-8, the lines before are {told}"
            raise Refusal(what, f"{path}:{number}", "write the whole file as UTF-8")
        yield _decode(path, line, later if number > 1 else encoding, number)


def _returned_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines that end in a carriage return, which becomes a line feed."""
    rest = b""
    for chunk in iter(partial(stream.read, SAMPLE), b""):
        *whole, rest = (rest + chunk).split(b"\r")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _encoding(path: Path, head: bytes, encoding: str) -> str:
    """The encoding to read the file in: by its mark, or as it is told, unless the file is UTF-8 anyway."""
    found = next((name for mark, name in MARKS.items() if head.startswith(mark)), "")
    if not encoding:
        return found or "utf-8"
    told = codecs.lookup(encoding).name
    if not found and told != "utf-8" and _is_utf8(path, path.stat().st_mtime_ns, told):
        found = "utf-8"
    if not found:
        _say_how(path, encoding)
    elif told not in (found, "utf-8", f"{found}-le", f"{found}-be"):
        say_once(
            f"{path} is {found.removesuffix('-sig').upper()} and read so, not as {encoding}", warn
        )
    return found or encoding


@lru_cache(maxsize=1024)
def _is_utf8(path: Path, _changed: int, told: str) -> bool:
    """Whether the file's bytes are UTF-8, perhaps but for some, with more characters than could be so by chance."""
    beyond, broken = _utf8_share(_sample(path))
    return beyond > max(broken, 3 if _is_east_asian(told) else 0)


def _is_east_asian(encoding: str) -> bool:
    """Whether characters are two bytes, which are UTF-8 by chance more often than single ones."""
    return encoding.replace("-", "_") in {*EAST_ASIAN, *USUAL}


def _is_other_line(line: bytes, told: str) -> bool:
    """Whether a line is UTF-8 in a file that is read as something else: a file may be of several sources."""
    if line.isascii():
        return False
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    return sum(not char.isascii() for char in text) > (8 if _is_east_asian(told) else 2)


@lru_cache(maxsize=1024)
def _say_how(path: Path, encoding: str) -> None:
    line = next(_lines_beyond_ascii(_sample(path)), b"")
    if line:
        shown = visible(line.decode(encoding, errors="replace").strip(), 60)
        say_once(f"{path} is read as {encoding}: {shown!r}")


def _sample(path: Path) -> bytes:
    """The file's first lines that are not ASCII: as many as are enough to see in what encoding they are."""
    found, size = [], 0
    with unpacking.open_bytes(path) as stream:
        for line in iter(partial(stream.readline, SAMPLE), b""):
            if not line.isascii():
                found.append(line)
                size += len(line)
            if size >= SAMPLE:
                break
    return b"".join(found)


def _utf8_share(data: bytes) -> tuple[int, int]:
    """How many characters beyond ASCII are valid UTF-8, and how many bytes are not."""
    text = data.decode("utf-8", errors="surrogateescape")
    beyond = sum(not char.isascii() for char in text)
    broken = sum("\udc80" <= char <= "\udcff" for char in text) if beyond else 0
    return beyond - broken, broken


def _lines_beyond_ascii(data: bytes) -> Iterator[bytes]:
    return (line for line in data.replace(b"\r", b"\n").split(b"\n") if not line.isascii())


def _check_text(path: Path, head: bytes) -> None:
    """Refuses what is no text, and a text whose characters are two or four bytes wide."""
    if head.startswith(POINTER):
        raise Refusal(
            "this is a pointer of Git LFS, not the file that it stands for",
            str(path),
            "git lfs pull",
        )
    if b"\0" not in head:
        return
    wide = _wide_guess(head)
    if wide:
        what = f"this is {wide.rpartition('-')[0].upper()} without a mark at its beginning"
        raise Refusal(what, f"{path}:1", f"say {FLAG} {wide}, or save it as UTF-8")
    kind = next(
        (f"it is {kind}" for mark, kind in KINDS.items() if head.startswith(mark)),
        "it holds NUL bytes",
    )
    raise Refusal(
        f"this is not text: {kind}", f"{path}:1", "name it by what it is, or save it as UTF-8 text"
    )


def _wide_guess(head: bytes) -> str:
    """UTF-16 or UTF-32, by the places of the NUL bytes that every line break and every space has."""
    for name, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = head[: len(head) // width * width]
        text = whole.decode(name, errors="replace")
        if (
            len(text) > 1
            and "�" not in text[:-1]
            and "\0" not in text
            and any(c in text for c in "\n\r ,\t")
        ):
            return name
    return ""


def _decode(path: Path, data: bytes, encoding: str, number: int = 1) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        name = encoding.removesuffix("-sig").upper()
        what = f"byte 0x{data[start]:02x} at position {start + 1} of the line is not {name}"
        raise Refusal(what, f"{path}:{number}", _advice(path, data, encoding)) from None


def _advice(path: Path, line: bytes, encoding: str) -> str:
    """What to do about bytes that do not decode, by what the file's bytes are."""
    sample = _sample(path)
    beyond, broken = _utf8_share(sample if line in sample else sample + b"\n" + line)
    if beyond > broken:
        name = unpacking.content_name(path)
        drop = f"iconv -c -f utf-8 -t utf-8 {name} > clean-{name}"
        return f"all but a few bytes is UTF-8: mend this line, or drop such bytes: {drop}"
    shown = {
        _shown(line, name): name for name in reversed(_guesses(sample, line)) if name != encoding
    }
    if not shown:
        return f"save the file as UTF-8, or name its encoding: {FLAG} NAME"
    ways = [f"{FLAG} {name} if {text!r} is right" for text, name in reversed(shown.items())]
    return f"say {', or '.join(ways)}"


def _shown(line: bytes, encoding: str) -> str:
    """The part of the line that is beyond ASCII, with a little around it."""
    first = next((place for place, byte in enumerate(line) if byte > 127), 0)
    start = max(line.rfind(b" ", 0, max(0, first - 8)), line.rfind(b",", 0, first), 0)
    return visible(
        line.decode(encoding)[len(line[:start].decode(encoding, "replace")) :].strip(" ,\r\n"), 40
    )


def _guesses(sample: bytes, line: bytes) -> list[str]:
    """At most two encodings in which the file's lines decode, the likelier first."""
    from charset_normalizer import from_bytes

    data = b"\n".join([line, *islice(_lines_beyond_ascii(sample), 1000)])[:GUESSED]
    likely = [USUAL.get(match.encoding, match.encoding) for match in from_bytes(data)]
    if likely and likely[0] not in EAST_ASIAN:
        likely = [*(["gb18030"] if _is_paired(data) else []), *_western_first(likely)]
    return [name for name in dict.fromkeys(likely) if _decodes(line, name)][:2]


def _is_paired(data: bytes) -> bool:
    """Whether bytes beyond ASCII stand in runs of even length, as in Chinese: of a few, no guess is a good one."""
    return all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", data))


def _western_first(likely: list[str]) -> list[str]:
    """Among encodings of one byte a character, that of Windows before those of DOS and old Macs, which nobody uses."""
    if likely[0] in OTHER_SCRIPTS:
        return likely
    windows = [name for name in likely if name.startswith("cp125")]
    return ["cp1252", *windows, "mac_roman"]


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
