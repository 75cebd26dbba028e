"""Seeded damage to a file: what disks, networks, editors, other tools and careless people do to its bytes."""

import random
import re
from collections.abc import Callable

INSERTED = {
    "NUL bytes": [b"\0", b"\0" * 5000],
    "bytes that are not UTF-8": [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xe4\xb8",
    ],
    "a byte order mark": [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"],
    "a number": [
        b"9" * 5000,
        b"1e999",
        b"-1e999",
        b"1e-400",
        b"NaN",
        b"-Infinity",
        b"0x1F",
        b"1_000",
        b"9" * 400,
    ],
    "deep nesting": [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" * 900 + b"]" * 900,
        b"{a: " * 2000,
        b"- " * 2000,
    ],
    "a long text": [b"a" * 2_000_000, b" " * 1_000_000, b"\n" * 20_000, b"a b" * 300_000],
    "control characters": [
        b"\x1b[2J\x1b]0;x\x07",
        b"\r",
        b"\x0b",
        b"\x0c",
        b"\x1a",
        b"\x1c",
        b"\x7f",
        b"\b",
    ],
    "line ends of Unicode": [
        "\x85".encode(),
        "\u2028".encode(),
        "\u2029".encode(),
        "\u202e".encode(),
    ],
    "punctuation": [
        b'"',
        b"'",
        b"\\",
        b"\t",
        b",",
        b";",
        b": ",
        b"#",
        b"[",
        b"]",
        b"{",
        b"}",
        b"- ",
        b"|",
        b">",
        b"@",
    ],
    "escapes": [
        b"\\ud800",
        b"\\u0000",
        b"\\x",
        b'\\"',
        b"\\n",
        b"%",
        b"%s",
        b"$HOME",
        b"{0}",
        b"~",
        b"*",
        b"**/*",
    ],
    "YAML's own": [
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"\n---\n",
        b"\n...\n",
        b"%YAML 9.9\n",
        b"? ",
        b"!!binary ",
        b"!!set ",
    ],
    "a tag": [
        b"!!python/object/apply:os.mkdir [pwned] ",
        b"!!python/name:os.system ",
        b"!x ",
        b"!!float ",
        b"!!int ",
    ],
}
WRONG = {  # values of another type, separated by a blank; ␣ stands for a blank inside one
    "yaml": 'null [] {} true -1 0 0.5 1e999 -.inf .nan 2001-01-01 0x1F [1,[2]] {a:␣b} \'\' "\\0" "\\ud800" ~ *x a,b'
    ' 99999999999999999999 "a\\nb" [a,a] steps auto all no -1e-400 !!binary␣YQ== "\\e[2J" '
    + "9"
    * 5000,
    "json": 'null [] {} true -1 0 0.5 1e999 NaN "" "\\ud800" "\\u0000" [1] [[]] {"a":1} [null] "a,b"'
    ' 99999999999999999999 {"dict":[]} {"tensor":"0"} [["a",1]] -1e400 ' + "9" * 5000,
}
SPOTS = {
    "yaml": rb"(?<=: )\S.*",
    "json": rb'(?<=": )("[^"]*"|-?[\d.e-]+|true|false|null|\[[^\[\]]*\])',
}
Mutation = Callable[[random.Random, bytes], bytes]


def _slice(drawn: random.Random, content: bytes) -> tuple[int, int]:
    start = drawn.randrange(len(content) + 1)
    return start, min(len(content), start + drawn.choice((1, 2, 10, 100, 1000)))


def _flip(drawn: random.Random, content: bytes) -> bytes:
    place = drawn.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ 1 << drawn.randrange(8)]) + content[place + 1 :]
    )


def _replace(drawn: random.Random, content: bytes) -> bytes:
    place = drawn.randrange(len(content))
    return content[:place] + drawn.randbytes(1) + content[place + 1 :]


def _delete(drawn: random.Random, content: bytes) -> bytes:
    start, end = _slice(drawn, content)
    return content[:start] + content[end:]


def _double(drawn: random.Random, content: bytes) -> bytes:
    start, end = _slice(drawn, content)
    return content[:end] + content[start:]


def _swap(drawn: random.Random, content: bytes) -> bytes:
    first, second, third, fourth = sorted(drawn.randrange(len(content) + 1) for _ in range(4))
    parts = (
        content[:first],
        content[third:fourth],
        content[second:third],
        content[first:second],
        content[fourth:],
    )
    return b"".join(parts)


def _cut(drawn: random.Random, content: bytes) -> bytes:
    return content[: drawn.randrange(len(content))]


def _insert(choices: list[bytes]) -> Mutation:
    def mutate(drawn: random.Random, content: bytes) -> bytes:
        places = [
            0,
            len(content),
            drawn.randrange(len(content) + 1),
            drawn.randrange(len(content) + 1),
        ]
        values = [found.start() for found in re.finditer(rb"(?<=[:\",\t ])[\w-]", content)]
        place = drawn.choice([*places, *([drawn.choice(values)] * 4 if values else [])])
        return content[:place] + drawn.choice(choices) + content[place:]

    return mutate


def _number(drawn: random.Random, content: bytes) -> bytes:
    spots = list(re.finditer(rb"\d+", content))
    if not spots:
        return content
    spot = drawn.choice(spots)
    return content[: spot.start()] + drawn.choice(INSERTED["a number"]) + content[spot.end() :]


def _lines(change: Callable[[random.Random, list[bytes]], None]) -> Mutation:
    def mutate(drawn: random.Random, content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        change(drawn, lines)
        return b"".join(lines)

    return mutate


def _double_line(drawn: random.Random, lines: list[bytes]) -> None:
    lines.insert(drawn.choice((0, 1, len(lines))), drawn.choice([lines[0], drawn.choice(lines)]))


def _mix_ends(drawn: random.Random, lines: list[bytes]) -> None:
    lines[:] = [
        line.rstrip(b"\r\n") + drawn.choice((b"\n", b"\r\n", b"\r", b"\n\n", b"\n\r"))
        for line in lines
    ]


def _shuffle(drawn: random.Random, lines: list[bytes]) -> None:
    drawn.shuffle(lines)


def _encode(drawn: random.Random, content: bytes) -> bytes:
    encoding = drawn.choice(
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "utf-7", "cp037")
    )
    return content.decode("latin-1").encode(encoding, "replace")


ANYWHERE: dict[str, Mutation] = {
    "a bit flipped": _flip,
    "a byte replaced": _replace,
    "a slice deleted": _delete,
    "a slice doubled": _double,
    "two slices swapped": _swap,
    "cut short": _cut,
    "emptied": lambda drawn, content: drawn.choice((b"", b"\n", b" ", b"\n\n\t")),
}
IN_TEXT: dict[str, Mutation] = {
    **{f"{name} inserted": _insert(choices) for name, choices in INSERTED.items()},
    "another number": _number,
    "a line doubled": _lines(_double_line),
    "line ends mixed": _lines(_mix_ends),
    "lines shuffled": _lines(_shuffle),
    "another encoding": _encode,
}


def _wrong_value(kind: str) -> Mutation:
    def mutate(drawn: random.Random, content: bytes) -> bytes:
        spots = list(re.finditer(SPOTS[kind], content))
        if not spots:
            return content
        spot, value = drawn.choice(spots), drawn.choice(WRONG[kind].split(" ")).replace("␣", " ")
        return content[: spot.start()] + value.encode() + content[spot.end() :]

    return mutate


def mutated(drawn: random.Random, content: bytes, kind: str) -> tuple[str, bytes]:
    """What was done, in words, and the content after it; the kind is yaml, json, text or binary."""
    known = ANYWHERE | (IN_TEXT if kind != "binary" else {})
    if kind in WRONG:
        known |= {
            f"{name} value": _wrong_value(kind)
            for name in ("a wrong", "another", "an odd", "a strange")
        }
    if drawn.random() < 0.03:
        return "nothing", content
    done = []
    for _ in range(drawn.choice((1, 1, 1, 2, 3))):
        if content:
            done.append(drawn.choice(list(known)))
            content = known[done[-1]](drawn, content)
    return ", ".join(done), content
