"""A trained folder + new texts -> answers: the same labels and scores as transformers.pipeline()."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
import yaml
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from recipes.common import data, files, metrics
from recipes.common.errors import Refusal
from recipes.common.labels import MULTI, REGRESSION, SINGLE

CHUNK = 4096  # rows that are sorted by length together
Text = str | tuple[str, str]


class Classifier:
    """A trained text classifier, ready to answer."""

    def __init__(self, folder: str, trust_remote_code: bool = False):
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise Refusal(f"{folder} holds no trained model", "the folder", "name a run's --output_dir")
        disable_progress_bar()
        self.flags, self.record = _read(path / "run.yaml"), _read(path / "run.json")
        self.is_pair = self.record.get("is_pair", False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        self.model = _load(path, config, trust_remote_code)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        self.device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.model.to(self.device).eval()
        self.names = [config.id2label[number] for number in range(config.num_labels)]
        self.kind = config.problem_type or (SINGLE if config.num_labels > 1 else REGRESSION)
        self.max_length = min(self.tokenizer.model_max_length, self.flags.get("max_seq_length", 512))

    def answers(self, texts: Iterable[Text], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """One row a text, in order: prediction and scores; a number for regression, a list for several labels."""
        iterator = iter(texts)
        while chunk := list(itertools.islice(iterator, CHUNK)):
            for text, logits in zip(chunk, self._logits(chunk, batch_size), strict=True):
                yield {"text": text, **self._answer(logits)}

    @torch.inference_mode()
    def _logits(self, texts: list[Text], batch_size: int) -> numpy.ndarray:
        order = sorted(range(len(texts)), key=lambda position: -len("".join(texts[position])))
        rows: dict[int, numpy.ndarray] = {}
        for start in range(0, len(order), batch_size):
            positions = order[start : start + batch_size]
            batch = [texts[position] for position in positions]
            options = {"truncation": True, "max_length": self.max_length, "padding": True, "return_tensors": "pt"}
            logits = self.model(**self.tokenizer(batch, **options).to(self.device)).logits
            rows |= dict(zip(positions, logits.float().cpu().numpy(), strict=True))
        return numpy.stack([rows[position] for position in range(len(texts))])

    def _answer(self, logits: numpy.ndarray) -> dict[str, Any]:
        if self.kind == REGRESSION:
            return {"prediction": float(logits[0])}
        scores = dict(zip(self.names, metrics.probabilities(logits, self.kind).tolist(), strict=True))
        if self.kind == MULTI:
            return {"prediction": [name for name, score in scores.items() if score > 0.5], "scores": scores}
        best = max(scores, key=scores.get)
        return {"prediction": best, "score": scores[best], "scores": scores}

    def texts(self, path: Path) -> Iterator[Text]:
        """The texts of a file, from the columns that the model was trained on; a .txt file has one text a line."""
        columns = self.record.get("text_columns", ["text"])
        columns = ["text"] if path.name.removesuffix(".gz").endswith(".txt") else columns
        for number, row in files.read(path):
            missing = next((name for name in columns if name not in row), None)
            if missing:
                what = f"no column {missing!r}; columns: {', '.join(row)}"
                raise Refusal(what, files.place(path, number), "name the columns as in the training data")
            one = {name: [str(row[name] or "")] for name in columns}
            first, second = data.join(one, columns, self.flags.get("text_column_delimiter", " "), self.is_pair)
            yield (first[0], second[0]) if second else first[0]


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def _load(folder: Path, config: Any, trust_remote_code: bool) -> torch.nn.Module:
    options = {"config": config, "dtype": torch.float32, "trust_remote_code": trust_remote_code}
    return AutoModelForSequenceClassification.from_pretrained(folder, **options)
