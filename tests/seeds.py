"""Valid data files in every format that the recipes read, and a second, plain reader of each format."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from conftest import text

ROWS = 40
WORDS = ["“warm”", "naïve", "虽然房间很小，", "🙂", "ﬁne", "x y"]
KINDS = {"json": "json", "jsonl": "json", "yaml": "yaml", "parquet": "binary"}


@dataclass(frozen=True)
class File:
    """A data file: the recipe that reads it, its flags, and which rows stand in it."""

    recipe: str
    rows: str
    flags: Sequence[str] = ()


def row(kind: str, number: int) -> dict[str, Any]:
    """A row of this kind."""
    words = f"{text(number, 9)} {WORDS[number % len(WORDS)]} {number}"
    label = ("negative", "positive")[number % 2]
    if kind == "review":
        return {"text": words, "label": label}
    if kind == "pair":
        return {"sentence1": words, "sentence2": words[::-1], "label": number % 3, "idx": number}
    if kind == "rating":
        return {"text": words, "label": number / 4}
    if kind == "labels":
        return {"text": words, "label": [label, "long"] if number % 3 else [label]}
    if kind == "text":
        return {"text": words}
    if kind == "nested":
        return {"id": number, "translation": {"en": words, "de": words.upper()}}
    return (
        {"en": words, "de": words.upper()}
        if kind == "parallel"
        else {"document": words * 2, "summary": words}
    )


TRANSLATION = ["--source_lang", "en", "--target_lang", "de"]
FILES = {
    f"reviews.{ending}": File("sentiment", "review")
    for ending in ("csv", "tsv", "json", "jsonl", "parquet")
}
FILES |= {
    f"pairs.{ending}": File("sentiment", "pair")
    for ending in ("csv", "tsv", "json", "jsonl", "parquet")
}
FILES |= {
    f"ratings.{ending}": File("sentiment", "rating") for ending in ("csv", "jsonl", "parquet")
}
FILES |= {
    f"labels.{ending}": File("sentiment", "labels") for ending in ("json", "jsonl", "parquet")
}
FILES |= {"lines.txt": File("mlm_pretrain", "text"), "texts.jsonl": File("mlm_pretrain", "text")}
FILES |= {"running.txt": File("clm_pretrain", "text"), "texts.csv": File("clm_pretrain", "text")}
FILES |= {
    f"nested.{ending}": File("translation", "nested", TRANSLATION)
    for ending in ("json", "jsonl", "parquet")
}
FILES |= {
    f"parallel.{ending}": File("translation", "parallel", TRANSLATION)
    for ending in ("csv", "tsv", "en", "de")
}
FILES |= {
    f"news.{ending}": File("summarization", "news")
    for ending in ("csv", "json", "jsonl", "parquet")
}


def write(name: str) -> bytes:
    """The file's content."""
    ending, rows = (
        name.rpartition(".")[2],
        [row(FILES[name].rows, number) for number in range(ROWS)],
    )
    if ending == "parquet":
        stream = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream, row_group_size=16)
        return stream.getvalue()
    if ending in ("csv", "tsv"):
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(
            stream, list(rows[0]), delimiter="," if ending == "csv" else "\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue().encode()
    if ending == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    column = ending if ending in ("en", "de") else "text"
    lines = [
        json.dumps(row, ensure_ascii=False) if ending == "jsonl" else row[column] for row in rows
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def compress(content: bytes) -> bytes:
    """Returns the content, compressed with gzip."""
    return gzip.compress(content, mtime=0)


# How a file begins that says its encoding; UTF-32's mark begins as UTF-16's does.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, read at once by the plainest means."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    ending = path.name.removesuffix(".gz").rpartition(".")[2]
    if ending == "parquet":
        return [_flat(row) for row in pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()]
    found = content.decode(
        next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    )
    if ending in ("csv", "tsv"):
        return _cells(found, ending)
    if ending == "json":
        return _objects(found)
    lines = found.split("\n")[: None if found[-1] != "\n" else -1]
    if ending == "jsonl":
        return [_flat(json.loads(line)) for line in lines if line.strip()]
    return [{ending if ending in ("en", "de") else "text": line} for line in lines]


def _cells(found: str, ending: str) -> list[dict[str, Any]]:
    if ending == "csv":
        head = found.partition("\n")[0]
        delimiter = ";" if ";" in head and "," not in head else ","
        cells = list(csv.reader(io.StringIO(found, newline="\n"), delimiter=delimiter))
    else:
        lines = [line.rstrip("\r") for line in found.split("\n") if line.strip()]
        cells = [[_without_quotes(cell) for cell in line.split("\t")] for line in lines]
    header, *rows = [line for line in cells if line]
    return [dict(zip([name.strip() for name in header], line, strict=True)) for line in rows]


def _without_quotes(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    return (
        cell[1:-1].replace('""', '"')
        if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
        else cell
    )


def _objects(found: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(found)
    except ValueError:
        rows = [json.loads(line) for line in found.split("\n") if line.strip()]
    if isinstance(rows, dict):
        rows = rows.get("data", [rows])
    return [_flat(row) for row in rows]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    inner = row.get("translation")
    return {**row, **inner} if isinstance(inner, dict) else row
