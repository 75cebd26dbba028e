"""Texts -> a trained tokenizer and a report: how well it compresses, what it does not know, how it splits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.common import decoding, files
from recipes.common.errors import Refusal, visible
from recipes.common.vocabularies import train_tokenizer

SAMPLES = 5


class FileTexts:
    """The texts of files, as often as they are asked for."""

    def __init__(self, paths: list[Path], column: str, encoding: str = ""):
        self.paths, self.column, self.options = paths, column, files.Options(encoding)

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            for number, row in files.read(path, self.options):
                if not isinstance(row.get(self.column), str):
                    what = f"no text in column {self.column!r}; columns: {', '.join(row)}"
                    raise Refusal(what, files.place(path, number), "say which it is: --text_column_name NAME")
                yield row[self.column]


def train(
    patterns: list[str],
    algorithm: str,
    vocab_size: int,
    model_type: str,
    column: str,
    output_dir: Path,
    encoding: str = "",
) -> dict:
    """Trains and saves a tokenizer; its report: vocabulary, bytes a token, share of unknown tokens, samples."""
    decoding.check(encoding)
    texts = FileTexts(files.expand(patterns, "FILES"), column, encoding)
    tokenizer = train_tokenizer(texts, algorithm, vocab_size, model_type)
    tokenizer.save_pretrained(output_dir)
    found = report(tokenizer, texts)
    (output_dir / "tokenizer_report.json").write_text(json.dumps(found, ensure_ascii=False, indent=2), encoding="utf-8")
    return found


def report(tokenizer: Any, texts: Any) -> dict[str, Any]:
    """Compression in bytes a token, the share of unknown tokens, and how the first texts are split."""
    tokens = size = unknown = 0
    samples = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens, size = tokens + len(ids), size + len(text.encode())
        unknown += sum(token == tokenizer.unk_token_id for token in ids)
        if len(samples) < SAMPLES and text.strip():
            samples.append([tokenizer.decode([token]) for token in ids[:20]])
    return {
        "vocab_size": len(tokenizer),
        "tokens": tokens,
        "bytes_per_token": round(size / max(tokens, 1), 3),
        "unknown_share": round(unknown / max(tokens, 1), 6),
        "samples": samples,
    }


def render(found: dict[str, Any], output_dir: Path) -> str:
    """The report as a person reads it."""
    lines = [f"vocabulary      {found['vocab_size']:,} tokens", f"text            {found['tokens']:,} tokens"]
    lines += [
        f"compression     {found['bytes_per_token']:.2f} bytes/token",
        f"unknown         {found['unknown_share']:.3%}",
    ]
    lines += [f"split           {visible('|'.join(sample), 100)}" for sample in found["samples"]]
    return "\n".join([*lines, f"saved           {visible(str(output_dir))}"])
