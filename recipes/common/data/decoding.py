"""Decodes a file's bytes into lines of text.

The file's own mark decides the encoding, or --encoding; otherwise it is UTF-8. Bytes that do not
decode are refused, with a guess at what they are.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from recipes.common.data import unpacking
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, visible, warn

FLAG = "--encoding"
# FF FE is also how UTF-32's mark begins: the longer marks come first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# The most bytes of a line or characters of a cell. text8, a known corpus, is one line of 10^8.
LONGEST = 1 << 27
HEAD, SAMPLE = 1 << 16, 1 << 22  # bytes that are looked at for line ends, and for an encoding
GUESSED = 1 << 14  # bytes of lines beyond ASCII by which an encoding is guessed
# Names that Windows uses -> Python's names.
PYTHON_NAMES = {
    "ansi": "cp1252",
    "unicode": "utf-16",
    "utf-8-bom": "utf-8-sig",
    "utf8-bom": "utf-8-sig",
}
# A guessed encoding -> the common one, which reads ordinary text the same.
USUAL = {
    "shift_jis_2004": "cp932",
    "shift_jisx0213": "cp932",
    "shift_jis": "cp932",
    "euc_jis_2004": "euc_jp",
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
# Encodings of Cyrillic, Greek, Hebrew and Arabic.
OTHER_SCRIPTS = {"cp1251", "koi8_r", "cp1253", "cp1255", "cp1256"}
# The first bytes of files that are not texts.
KINDS = {
    b"PK\x03\x04": "a zip archive (Excel's .xlsx is one, too)",
    b"\x1f\x8b": "packed by gzip",
    b"PAR1": "parquet",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls, .doc)",
    b"SQLite": "a database",
}
POINTER = b"version https://git-lfs.github.com/spec"
BYTES_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
ESCAPED = re.compile("[\udc80-\udcff]")  # how "surrogateescape" shows bytes that are not UTF-8
BETWEEN_WORDS = re.compile(r"[\n\r ,\t]")

_said: set[str] = set()


def lines(path: Path, encoding: str = "") -> Iterator[str]:
    """Yields decoded lines with their line ends: \\n, \\r\\n, or \\r alone.

    Refuses bytes that do not decode, and names their line. A file's own mark wins over `encoding`,
    and so does text that is clearly UTF-8; a warning says so.
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
        if "\n" not in text:
            text = text.replace("\r", "\n")
        yield from io.StringIO(text, newline="\n")


def check(encoding: str | None) -> None:
    """Refuses a name that no encoding has."""
    if not encoding:
        return
    try:
        "\n".encode(encoding)
    except (LookupError, ValueError):
        name = PYTHON_NAMES.get(encoding.lower(), "utf-8, gb18030, cp1252, …")
        raise Refusal(f"no encoding is called {encoding!r}", FLAG, f"say {FLAG} {name}") from None


def begin_to_speak() -> None:
    """Forgets what `say_once` has said: another run begins."""
    _said.clear()


def say_once(message: str, speak: Callable[[str], None] = note) -> None:
    """Prints a message once, however often the file is read."""
    if message not in _said:
        _said.add(message)
        speak(message)


def _is_wide(encoding: str) -> bool:
    """Whether a line break is more than one byte, or another byte than in ASCII."""
    return encoding != "utf-8-sig" and "\n".encode(encoding) != b"\n"


def _line_end(head: bytes) -> bytes:
    """Returns what ends a line: a return alone in files of old programs for the Macintosh."""
    if b"\r" in head and b"\n" not in head:
        return b"\r"
    return b"\n"


def _narrow_lines(path: Path, stream: BinaryIO, encoding: str, end: bytes) -> Iterator[str]:
    """Yields the lines of a file in which a line break is one byte."""
    told = codecs.lookup(encoding).name
    is_utf8 = told.startswith("utf-8")
    for number, line in enumerate(_byte_lines(stream, end), 1):
        if len(line) >= LONGEST:
            what = f"a line of more than {LONGEST:,} bytes"
            raise Refusal(what, f"{path}:{number}", "break it into lines")
        if not is_utf8 and _is_other_line(line, told):
            what = f"this line is UTF-8, the lines before are {told}"
            raise Refusal(what, f"{path}:{number}", "write the whole file as UTF-8")
        yield _decode(path, line, encoding, number)
        if is_utf8:
            encoding = "utf-8"  # only the first line may begin with a mark


def _byte_lines(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    if end == b"\n":
        return iter(partial(stream.readline, LONGEST), b"")
    return _returned_lines(stream)


def _returned_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yields lines that end in a carriage return, which becomes a line feed."""
    rest = b""
    for chunk in iter(partial(stream.read, SAMPLE), b""):
        *whole, rest = (rest + chunk).split(b"\r")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def _encoding(path: Path, head: bytes, encoding: str) -> str:
    """Returns the encoding to read the file in.

    It is that of the file's mark, or the requested one, unless the file is UTF-8 anyway.
    """
    found = _marked_encoding(head)
    if not encoding:
        return found or "utf-8"
    told = codecs.lookup(encoding).name
    if not found and told != "utf-8" and _is_utf8(path, path.stat().st_mtime_ns, told):
        found = "utf-8"
    if not found:
        _say_how(path, encoding)
    elif told not in (found, "utf-8", f"{found}-le", f"{found}-be"):
        title = found.removesuffix("-sig").upper()
        say_once(f"{path} is {title}: it is not read as {encoding}", warn)
    return found or encoding


def _marked_encoding(head: bytes) -> str:
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    return ""


@lru_cache(maxsize=1024)
def _is_utf8(path: Path, _changed: int, told: str) -> bool:
    """Whether the file is UTF-8, apart from a few bytes.

    It needs more valid characters than chance would give.
    """
    beyond, broken = _utf8_share(_sample(path))
    by_chance = 3 if _is_east_asian(told) else 0
    return beyond > max(broken, by_chance)


def _is_east_asian(encoding: str) -> bool:
    """Whether a character is two bytes, which are UTF-8 by chance more often than single ones."""
    name = encoding.replace("-", "_")
    return name in EAST_ASIAN or name in USUAL


def _is_other_line(line: bytes, told: str) -> bool:
    """Whether a line is UTF-8 in a file that is read as something else.

    A file may be put together from several sources.
    """
    if line.isascii():
        return False
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    by_chance = 8 if _is_east_asian(told) else 2
    return len(BEYOND_ASCII.findall(text)) > by_chance


@lru_cache(maxsize=1024)
def _say_how(path: Path, encoding: str) -> None:
    """Shows the first line for which the encoding matters: a user sees whether it is right."""
    line = next(_lines_beyond_ascii(_sample(path)), b"")
    if line:
        shown = visible(line.decode(encoding, errors="replace").strip(), 60)
        say_once(f"{path} is read as {encoding}: {shown!r}")


def _sample(path: Path) -> bytes:
    """Returns the file's first lines that are not ASCII: enough of them to see their encoding."""
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
    """Returns how many characters beyond ASCII are valid UTF-8, and how many bytes are not."""
    text = data.decode("utf-8", errors="surrogateescape")
    beyond = len(BEYOND_ASCII.findall(text))
    broken = len(ESCAPED.findall(text))
    return beyond - broken, broken


def _lines_beyond_ascii(data: bytes) -> Iterator[bytes]:
    return (line for line in data.replace(b"\r", b"\n").split(b"\n") if not line.isascii())


def _check_text(path: Path, head: bytes) -> None:
    """Refuses what is no text, and a text whose characters are two or four bytes wide."""
    if head.startswith(POINTER):
        what = "this is a pointer of Git LFS, not the file that it stands for"
        raise Refusal(what, str(path), "run: git lfs pull")
    if b"\0" not in head:
        return
    wide = _wide_guess(head)
    if wide:
        what = f"this is {wide.rpartition('-')[0].upper()} without a byte order mark"
        raise Refusal(what, f"{path}:1", f"say {FLAG} {wide}, or save it as UTF-8")
    fix = "give the file the ending of its format, or save it as UTF-8 text"
    raise Refusal(f"this is not text: {_kind(head)}", f"{path}:1", fix)


def _kind(head: bytes) -> str:
    for beginning, kind in KINDS.items():
        if head.startswith(beginning):
            return f"it is {kind}"
    return "it holds NUL bytes"


def _wide_guess(head: bytes) -> str:
    """Returns UTF-16 or UTF-32, by the places of the NUL bytes of line breaks and spaces.

    Returns an empty string for bytes that are neither.
    """
    for name, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = head[: len(head) // width * width]
        text = whole.decode(name, errors="replace")
        is_decoded = len(text) > 1 and "\0" not in text and "�" not in text[:-1]
        if is_decoded and BETWEEN_WORDS.search(text):
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
    """Returns what to do about bytes that do not decode, by what the file's bytes are."""
    sample = _sample(path)
    data = sample
    if line not in sample:
        data = sample + b"\n" + line
    beyond, broken = _utf8_share(data)
    if beyond > broken:
        name = unpacking.content_name(path)
        drop = f"iconv -c -f utf-8 -t utf-8 {name} > clean-{name}"
        return f"the file is UTF-8, apart from a few bytes: correct this line, or drop them: {drop}"
    names: dict[str, str] = {}  # the line as an encoding shows it -> the likeliest such encoding
    for name in _guesses(sample, line):
        if name != encoding:
            names.setdefault(_shown(line, name), name)
    if not names:
        return f"save the file as UTF-8, or name its encoding: {FLAG} NAME"
    ways = [f"{FLAG} {name} if {text!r} is right" for text, name in names.items()]
    return f"say {', or '.join(ways)}"


def _shown(line: bytes, encoding: str) -> str:
    """Returns the part of the line that is beyond ASCII, with a little around it."""
    found = BYTES_BEYOND_ASCII.search(line)
    first = found.start() if found else 0
    start = max(line.rfind(b" ", 0, max(0, first - 8)), line.rfind(b",", 0, first), 0)
    before = line[:start].decode(encoding, errors="replace")
    return visible(line.decode(encoding)[len(before) :].strip(" ,\r\n"), 40)


def _guesses(sample: bytes, line: bytes) -> list[str]:
    """Returns at most two encodings in which the file's lines decode, the likelier first."""
    from charset_normalizer import from_bytes

    data = b"\n".join([line, *islice(_lines_beyond_ascii(sample), 1000)])[:GUESSED]
    likely = [USUAL.get(match.encoding, match.encoding) for match in from_bytes(data)]
    if likely and likely[0] not in EAST_ASIAN:
        likely = _western_first(likely)
        if _is_paired(data):
            likely.insert(0, "gb18030")
    found: list[str] = []
    for name in likely:
        if name not in found and _decodes(line, name):
            found.append(name)
    return found[:2]


def _is_paired(data: bytes) -> bool:
    """Whether all runs of bytes beyond ASCII are of even length, as in Chinese.

    With only a few bytes, no other guess is a good one.
    """
    return all(len(run) % 2 == 0 for run in BYTES_BEYOND_ASCII.findall(data))


def _western_first(likely: list[str]) -> list[str]:
    """Returns the encodings of Windows before those of DOS and old Macs, which are hardly used.

    All of them have one byte per character. Encodings of other scripts stay as they are.
    """
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
