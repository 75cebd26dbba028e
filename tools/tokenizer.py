"""Trains a tokenizer on texts and reports how well it fits them.

The report says how well it compresses, what it does not know, and how it splits texts.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from recipes.common.data import decoding, found_files, readers
from recipes.common.model.tokenizer_training import (
    ALGORITHMS,
    default_algorithm,
    round_trip,
    train_tokenizer,
    writes,
)
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, visible

SAMPLES = 5


class FileTexts:
    """Gives the texts of files, which are read again at every iteration."""

    def __init__(self, paths: list[Path], column: str, encoding: str = ""):
        self.paths = paths
        self.column = column
        self.options = readers.Options(encoding)

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            for number, row in readers.read(path, self.options):
                text = row.get(self.column)
                if not isinstance(text, str):
                    what = f"no text in column {self.column!r}; columns: {', '.join(row)}"
                    fix = "say which it is: --text_column_name NAME"
                    raise Refusal(what, readers.place(path, number), fix)
                yield text


@dataclass(frozen=True)
class Settings:
    """Holds a tokenizer's training settings; without an algorithm the model's family decides."""

    vocab_size: int = 8000
    model_type: str = "gpt2"
    algorithm: str | None = None
    do_lower_case: bool = False

    def check(self) -> None:
        """Refuses an unknown architecture or algorithm."""
        if self.model_type not in CONFIG_MAPPING:
            examples = "for example bert, roberta, t5, gpt2, llama"
            fix = did_you_mean(self.model_type, CONFIG_MAPPING, examples)
            raise Refusal(f"unknown architecture {self.model_type!r}", "--model_type", fix)
        if self.algorithm is not None and self.algorithm not in ALGORITHMS:
            fix = did_you_mean(self.algorithm, ALGORITHMS, f"choose one of {', '.join(ALGORITHMS)}")
            raise Refusal(f"unknown algorithm {self.algorithm!r}", "--algorithm", fix)


def train(
    patterns: list[str], column: str, output_dir: Path, settings: Settings, encoding: str = ""
) -> dict[str, Any]:
    """Trains a tokenizer, saves it, and returns its report."""
    settings.check()
    decoding.check(encoding)
    texts = FileTexts(found_files.expand(patterns, "FILES"), column, encoding)
    tokenizer = train_tokenizer(texts, **asdict(settings))
    tokenizer.save_pretrained(output_dir)
    found = report(tokenizer, texts, settings)
    text = json.dumps(found, ensure_ascii=False, indent=2)
    (output_dir / "tokenizer_report.json").write_text(text, encoding="utf-8")
    return found


def report(
    tokenizer: PreTrainedTokenizerBase, texts: FileTexts, settings: Settings
) -> dict[str, Any]:
    """Returns how well a tokenizer fits the texts.

    The report has bytes per token, the share of unknown tokens, the share of text that it gives
    back, and how it splits the first texts.
    """
    tokens = size = unknown = 0
    samples = []
    compared = map(str.lower, texts) if settings.do_lower_case else texts
    spaces = writes(settings.model_type)
    share = round_trip(tokenizer, compared, spaces)
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens += len(ids)
        size += len(text.encode())
        unknown += ids.count(tokenizer.unk_token_id)
        if len(samples) < SAMPLES and text.strip():
            samples.append([tokenizer.decode([token]) for token in ids[:20]])
    return {
        "algorithm": settings.algorithm or default_algorithm(settings.model_type),
        "vocab_size": len(tokenizer),
        "tokens": tokens,
        "bytes_per_token": round(size / max(tokens, 1), 3),
        "unknown_share": round(unknown / max(tokens, 1), 6),
        "round_trip_share": round(share, 6),
        "round_trip_with_spaces": spaces,
        "samples": samples,
    }


def render(found: dict[str, Any], output_dir: Path) -> str:
    """Returns the report for a person to read."""
    back = "as it was" if found["round_trip_with_spaces"] else "but for its spaces"
    lines = [
        f"vocabulary      {found['vocab_size']:,} tokens, {found['algorithm']}",
        f"text            {found['tokens']:,} tokens",
        f"compression     {found['bytes_per_token']:.2f} bytes/token",
        f"unknown         {found['unknown_share']:.3%}",
        f"gives back      {found['round_trip_share']:.1%} of the text {back}",
    ]
    for sample in found["samples"]:
        lines.append(f"split           {visible('|'.join(sample), 100)}")
    lines.append(f"saved           {visible(str(output_dir))}")
    return "\n".join(lines)
