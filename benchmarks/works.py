"""Lists what is measured: one training per task.

It is run by our recipe, by Hugging Face's example script, and by a plain loop.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import typer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    T5Config,
    set_seed,
)

from recipes.common.model.tokenizer_training import train_tokenizer

# Sorts rows within groups of 50 steps (or a quarter of an epoch), longest first. With another
# number of steps the rows would be longer than those of an epoch.
LENGTH_GROUPS = ["--train_sampling_strategy", "group_by_length"]
PREFIX = ["--source_prefix", "translate English to German: "]
SUMMARY_PREFIX = ["--source_prefix", "summarize: "]


@dataclass(frozen=True)
class Work:
    """A training and its evaluation: the same flags for our recipe and Hugging Face's script."""

    name: str
    recipe: str
    script: str  # of the peer, below its folder
    model: str  # the folder it begins with
    data: str  # the folder of its data
    flags: list[str]
    steps: int
    rows: int  # of a step
    best: list[str] = field(
        default_factory=list
    )  # flags that make the peer as fast as it gets, beside --bf16
    quality: tuple[str, ...] = ("eval_loss",)
    peer: list[str] = field(default_factory=list)  # what the peer needs beside, to do the same
    length: int = 128  # of a row, for the loop

    @property
    def command(self) -> list[str]:
        """The words of cli.py that run the recipe."""
        task = self.recipe.removesuffix("_pretrain")
        return ["finetune" if task == self.recipe else "pretrain", task]


WORKS = [
    Work(
        "sentiment: MiniLM on sst2",
        recipe="sentiment",
        script="text-classification/run_classification.py",
        model="minilm",
        data="sst2",
        flags=[
            "--text_column_names",
            "text",
            "--label_column_name",
            "label",
            "--max_seq_length",
            "128",
        ],
        steps=216,
        rows=32,
        best=[*LENGTH_GROUPS, "--pad_to_max_length", "false"],
        quality=("eval_accuracy",),
    ),
    Work(
        "masked LM: BERT 4x256",
        recipe="mlm_pretrain",
        script="language-modeling/run_mlm.py",
        model="bert-4x256",
        data="novels",
        flags=["--max_seq_length", "128", "--learning_rate", "1e-3"],
        steps=30,
        rows=32,
    ),
    Work(
        "masked LM: BERT-base",
        recipe="mlm_pretrain",
        script="language-modeling/run_mlm.py",
        model="bert-base",
        data="novels",
        flags=["--max_seq_length", "128", "--learning_rate", "1e-4"],
        steps=8,
        rows=32,
    ),
    Work(
        "causal LM: GPT-2 4x256",
        recipe="clm_pretrain",
        script="language-modeling/run_clm.py",
        model="gpt2-4x256",
        data="novels",
        flags=["--block_size", "256", "--learning_rate", "1e-3"],
        steps=20,
        rows=16,
        length=256,
    ),
    Work(
        "translation: T5 3+3x256 on multi30k",
        recipe="translation",
        script="translation/run_translation.py",
        model="t5-translation",
        data="multi30k_en_de",
        flags=["--source_lang", "en", "--target_lang", "de", *PREFIX, "--learning_rate", "1e-3"],
        steps=50,
        rows=64,
        best=LENGTH_GROUPS,
        quality=("eval_loss", "eval_gen_len"),
        peer=["--predict_with_generate"],
    ),
    Work(
        "summarization: T5 3+3x256 on scitldr",
        recipe="summarization",
        script="summarization/run_summarization.py",
        model="t5-summarization",
        data="scitldr_a",
        flags=[*SUMMARY_PREFIX, "--learning_rate", "1e-3", "--max_source_length", "512"],
        steps=31,
        rows=16,
        best=LENGTH_GROUPS,
        quality=("eval_loss", "eval_gen_len"),
        peer=["--predict_with_generate"],
        length=512,
    ),
]

# On a GPU: steps that fill it.
COMPILED = ["--torch_compile"]
WORKERS = ["--dataloader_num_workers", "4"]
ON_GPU = [
    Work(
        "masked LM on a GPU: BERT-base",
        recipe="mlm_pretrain",
        script="language-modeling/run_mlm.py",
        model="bert-base",
        data="novels",
        flags=["--max_seq_length", "128", "--learning_rate", "1e-4"],
        steps=24,
        rows=512,
        best=[*COMPILED, *WORKERS],
        peer=["--preprocessing_num_workers", "8"],
    ),
    Work(
        "causal LM on a GPU: GPT-2 124M",
        recipe="clm_pretrain",
        script="language-modeling/run_clm.py",
        model="gpt2-124m",
        data="novels",
        flags=["--block_size", "1024", "--learning_rate", "3e-4"],
        steps=24,
        rows=32,
        best=[*COMPILED, *WORKERS],
        peer=["--preprocessing_num_workers", "8"],
        length=1024,
    ),
]


def chosen(among: list[Work], names: list[str] | None, encoder: Path | None = None) -> list[Work]:
    """Returns the works of these names, or all; without an encoder only those that need none."""
    known = {work.name: work for work in among if encoder or work.model != "minilm"}
    if unknown := [name for name in names or [] if name not in known]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of: {', '.join(known)}", param_hint="--work"
        )
    return [known[name] for name in names or known]


def texts(data: Path, most: int = 20_000_000) -> list[str]:
    """Returns paragraphs of English novels, up to so many characters."""
    found, size = [], 0
    with gzip.open(data / "english_novels/train.txt.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            size += len(line)
            if size > most:
                break
            found.append(line)
    return found


def pairs(data: Path, folder: str) -> list[str]:
    """Returns the sources and targets of a task that generates texts."""
    rows = map(json.loads, (data / folder / "train.jsonl").open(encoding="utf-8"))
    return [text for row in rows for text in row.get("translation", row).values()]


def _bert(**sizes: Any) -> Callable[[Any], Any]:
    return lambda tokenizer: AutoModelForMaskedLM.from_config(
        BertConfig(vocab_size=len(tokenizer), **sizes)
    )


def _gpt2(**sizes: Any) -> Callable[[Any], Any]:
    return lambda tokenizer: AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=len(tokenizer), **sizes)
    )


def _t5(tokenizer: Any) -> Any:
    sizes = {
        "d_model": 256,
        "d_kv": 64,
        "num_heads": 4,
        "d_ff": 1024,
        "num_layers": 3,
        "num_decoder_layers": 3,
    }
    start = tokenizer.pad_token_id
    config = T5Config(
        vocab_size=len(tokenizer),
        decoder_start_token_id=start,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
    )
    return AutoModelForSeq2SeqLM.from_config(config)


SMALL = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
# Folder -> the texts of its tokenizer, how that is trained, and the model.
MODELS = {
    "bert-4x256": (lambda data: texts(data), ("wordpiece", 30522, "bert"), _bert(**SMALL)),
    "bert-base": (lambda data: texts(data), ("wordpiece", 30522, "bert"), _bert()),
    "gpt2-4x256": (
        lambda data: texts(data),
        ("bpe", 50257, "gpt2"),
        _gpt2(n_embd=256, n_layer=4, n_head=4, n_positions=256),
    ),
    "gpt2-124m": (lambda data: texts(data), ("bpe", 50257, "gpt2"), _gpt2()),
    "t5-translation": (lambda data: pairs(data, "multi30k_en_de"), ("unigram", 8000, "t5"), _t5),
    "t5-summarization": (lambda data: pairs(data, "scitldr_a"), ("unigram", 8000, "t5"), _t5),
}


def build(name: str, data: Path, folder: Path) -> None:
    """Writes the model that all begin with, once; its weights are drawn with a fixed seed."""
    if (folder / "config.json").exists():
        return
    read, (algorithm, size, model_type), make = MODELS[name]
    same = next(
        (
            path
            for path in folder.parent.glob(f"{name.partition('-')[0]}-*")
            if (path / "tokenizer.json").exists()
        ),
        None,
    )
    tokenizer = AutoTokenizer.from_pretrained(same) if same and model_type != "t5" else None
    lower = algorithm == "wordpiece"  # as bert-base-uncased does
    tokenizer = tokenizer or train_tokenizer(read(data), algorithm, size, model_type, lower)
    set_seed(0)
    make(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_novels(data: Path, folder: Path, train: int, validation: int = 100_000) -> None:
    """Writes train.txt and validation.txt of so many characters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.txt").write_text("".join(texts(data, train)), encoding="utf-8")
    with (data / "english_novels/validation.txt").open(encoding="utf-8") as stream:
        (folder / "validation.txt").write_text(
            "".join(islice(stream, validation // 200)), encoding="utf-8"
        )
