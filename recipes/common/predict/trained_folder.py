"""Loads a trained folder: its model, adapters and tokenizer, and how it was trained."""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers import AutoConfig, BatchEncoding, DataCollatorWithPadding, PretrainedConfig
from transformers.utils.logging import disable_progress_bar

from recipes.common.config.yaml_files import PlainLoader
from recipes.common.data import readers
from recipes.common.data.splits import join
from recipes.common.model import adapters, model_folders, tokenizer_loading, weights
from recipes.common.model.configuring import leave_out_unread_outputs
from recipes.common.model.loading import give_padding
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import reason, visible
from recipes.common.tokens.collators import never_empty

CHUNK = 4096  # rows that are sorted by length together
FLAG = "the folder"  # where a refusal points

Text = str | tuple[str, str]  # one text, or a pair
Row = dict[str, Any]


class Folder(ABC):
    """Answers texts with a trained folder. Subclasses say with which model, and how."""

    auto_class = ""

    def __init__(self, folder: str, trust_remote_code: bool = False):
        disable_progress_bar()
        self.path, self.trust_remote_code = Path(folder), trust_remote_code
        self.flags = read_record(self.path / "run.yaml")
        self.record = read_record(self.path / "run.json")
        self.config = config_of(self.path, trust_remote_code)
        leave_out_unread_outputs(self.config)
        self.tokenizer = self._load_tokenizer(folder)
        self.collate = never_empty(DataCollatorWithPadding(self.tokenizer), self.tokenizer)
        self.device = "cpu"
        if torch.accelerator.is_available():
            self.device = torch.accelerator.current_accelerator()
        self.model = self._load_model().to(self.device).eval()
        text_config = self.model.config.get_text_config()
        if text_config.pad_token_id is None:  # a decoder's classifier finds a text's end by it
            text_config.pad_token_id = self.tokenizer.pad_token_id

    def _load_tokenizer(self, folder: str) -> transformers.PreTrainedTokenizerBase:
        adapted = adapters.folder_of(folder)
        source = adapters.tokenizer_of(adapted, FLAG) if adapted else folder
        tokenizer = tokenizer_loading.load(source, FLAG, self.trust_remote_code)
        if tokenizer.pad_token is None:
            give_padding(tokenizer, FLAG)
        return tokenizer

    def _load_model(self) -> torch.nn.Module:
        """Loads the model with all its weights: a part that is new would answer at random."""
        auto_class, name = getattr(transformers, self.auto_class), str(self.path)
        trusted = self.trust_remote_code
        options = {"config": self.config, "dtype": torch.float32}
        if adapters.folder_of(name):
            adapted = adapters.load(auto_class, self.path, FLAG, trusted, **options)
            return adapted.get_base_model()
        model, new = weights.load(auto_class, name, FLAG, trusted, **options)
        weights.refuse_new(new, name, FLAG)
        weights.check_finite(model, name, FLAG)
        return model

    def answers(self, texts: Iterable[Text], batch_size: int = 32) -> Iterator[Row]:
        """Yields one row per text, in order; texts of like length run through the model
        together."""
        iterator = iter(texts)
        while chunk := list(itertools.islice(iterator, CHUNK)):
            yield from self._answer_chunk(chunk, batch_size)

    def _answer_chunk(self, chunk: list[Text], batch_size: int) -> Iterator[Row]:
        order = sorted(range(len(chunk)), key=lambda row: -len("".join(chunk[row])))
        answered: dict[int, Row] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            answers = self.answer([chunk[row] for row in rows])
            answered |= dict(zip(rows, answers, strict=True))
        for row, text in enumerate(chunk):
            yield {"text": text, **answered[row]}

    @abstractmethod
    def answer(self, texts: list[Text]) -> list[Row]:
        """Returns the answers to one batch."""

    def encode(self, texts: list[Text], max_length: int) -> BatchEncoding:
        """Returns the token ids of a batch on the model's device."""
        encoded = self.tokenizer(texts, truncation=True, max_length=max_length)
        rows = []
        for values in zip(*encoded.values(), strict=True):
            rows.append(dict(zip(encoded, values, strict=True)))
        return self.collate(rows).to(self.device)

    def asked(self, texts: Iterable[str], by_lines: bool) -> Iterator[Text]:
        """Yields the texts that somebody has typed, as pairs for a model of pairs.

        The texts of a pair have a tab between them. Without `by_lines`, two texts in a row may also
        be a pair.
        """
        texts = iter(texts)
        for text in texts:
            if not self.record.get("is_pair"):
                yield text
                continue
            first, tab, second = text.partition("\t")
            if not tab:
                second = None if by_lines else next(texts, None)
            if second is None:
                raise self._one_of_a_pair(text)
            yield first, second

    def _one_of_a_pair(self, text: str) -> Refusal:
        columns = " and ".join(self.record["text_columns"])
        what = f"this model reads pairs ({columns}), and here is one text"
        fix = "give two texts each time, or write a tab between them; --file reads the columns"
        return Refusal(what, visible(text, 60), fix)

    def texts(self, path: Path, encoding: str = "") -> Iterator[Text]:
        """Yields the texts of a file, from the columns that the model was trained on.

        A .txt file has one text per line, or a pair with a tab between.
        """
        rows = readers.read(path, readers.Options(encoding))
        if readers.is_plain_text(path):
            yield from self.asked((row["text"] for _, row in rows), by_lines=True)
            return
        for number, row in rows:
            yield self._text_of(row, readers.place(path, number))

    def _text_of(self, row: Row, where: str) -> Text:
        """Returns the text or the pair of a row."""
        columns = self.record.get("text_columns", ["text"])
        if isinstance(row.get("translation"), dict):
            row |= row["translation"]
        missing = [name for name in columns if name not in row]
        if missing:
            what = f"no column {missing[0]!r}; columns: {', '.join(row)}"
            raise Refusal(what, where, "name the columns as in the training data")
        one = {name: [str(row[name] or "")] for name in columns}
        delimiter = self.flags.get("text_column_delimiter", " ")
        first, second = join(one, columns, delimiter, self.record.get("is_pair", False))
        return (first[0], second[0]) if second else first[0]


def config_of(path: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """Returns the configuration of a trained folder; for adapters, that of their base model."""
    path = Path(model_folders.named(str(path), FLAG))
    if folder := adapters.folder_of(str(path)):
        return adapters.config_of(folder, FLAG, trust_remote_code)
    if not path.exists():
        fix = model_folders.near(path) or "name a run's --output_dir"
        raise Refusal(f"no folder {path}", FLAG, fix)
    if not (path / "config.json").is_file():
        raise Refusal(f"{path} holds no trained model", FLAG, "name a run's --output_dir")
    return model_folders.load(AutoConfig, str(path), FLAG, trust_remote_code)


def read_record(path: Path) -> dict[str, Any]:
    """Returns what run.json or run.yaml says, or an empty dict without the file."""
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text)
        return yaml.load(text, PlainLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        fix = "name a run's --output_dir"
        raise Refusal(f"not what a run wrote: {reason(error)}", str(path), fix) from None
