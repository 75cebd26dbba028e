"""A trained folder + new texts -> answers: labels and scores as transformers.pipeline() gives them, or texts."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
import yaml
from transformers import AutoConfig, DataCollatorWithPadding
from transformers.utils.logging import disable_progress_bar

from recipes.common.config.yaml_files import PlainLoader
from recipes.common.data import readers
from recipes.common.data.labels import MULTI, REGRESSION, SINGLE
from recipes.common.data.splits import join
from recipes.common.metrics import classification
from recipes.common.model import adapters, model_folders, probes, tokenizer_loading, weights
from recipes.common.model.loading import end_of_text, give_padding, max_length, start_of_text
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import reason, visible, warn
from recipes.common.tokens.collators import never_empty

CONTINUES = ("ForCausalLM", "LMHeadModel")  # how the names of causal language models end
CHUNK = 4096  # rows that are sorted by length together
Text = str | tuple[str, str]


class Folder:
    """A trained folder: its model (with its adapter, if it is one), its tokenizer, and how it was trained."""

    auto_class = ""

    def __init__(self, folder: str, trust_remote_code: bool = False):
        disable_progress_bar()
        self.path, self.trust_remote_code = Path(folder), trust_remote_code
        self.flags, self.record = _read(self.path / "run.yaml"), _read(self.path / "run.json")
        self.config = config_of(self.path, trust_remote_code)
        adapted = adapters.folder_of(folder)
        source = adapters.tokenizer_of(adapted, "the folder") if adapted else folder
        self.tokenizer = tokenizer_loading.load(source, "the folder", trust_remote_code)
        if self.tokenizer.pad_token is None:
            give_padding(self.tokenizer, "the folder")
        self.collate = never_empty(DataCollatorWithPadding(self.tokenizer), self.tokenizer)
        self.device = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        )
        self.model = self._load().to(self.device).eval()
        text_config = self.model.config.get_text_config()
        if text_config.pad_token_id is None:  # by it a decoder's classifier finds where a text ends
            text_config.pad_token_id = self.tokenizer.pad_token_id

    def _load(self) -> torch.nn.Module:
        """The model with all its weights: nothing that stayed random may answer."""
        auto_class, name, flag = (
            getattr(transformers, self.auto_class),
            str(self.path),
            "the folder",
        )
        options = {"config": self.config, "dtype": torch.float32}
        if adapters.folder_of(name):
            return adapters.load(
                auto_class, self.path, flag, self.trust_remote_code, **options
            ).get_base_model()
        model, new = weights.load(auto_class, name, flag, self.trust_remote_code, **options)
        weights.refuse_new(new, name, flag)
        weights.check_finite(model, name, flag)
        return model

    def answers(self, texts: Iterable[Text], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """One row a text, in order; texts of like length run through the model together."""
        iterator = iter(texts)
        while chunk := list(itertools.islice(iterator, CHUNK)):
            order = sorted(range(len(chunk)), key=lambda position: -len("".join(chunk[position])))
            rows: dict[int, dict[str, Any]] = {}
            for start in range(0, len(order), batch_size):
                positions = order[start : start + batch_size]
                rows |= dict(
                    zip(
                        positions,
                        self.answer([chunk[position] for position in positions]),
                        strict=True,
                    )
                )
            yield from ({"text": text, **rows[position]} for position, text in enumerate(chunk))

    def answer(self, texts: list[Text]) -> list[dict[str, Any]]:
        """The answers to one batch."""
        raise NotImplementedError

    def encode(self, texts: list[Text], max_length: int) -> Any:
        """Token ids of a batch on the model's device."""
        encoded = self.tokenizer(texts, truncation=True, max_length=max_length)
        rows = [
            dict(zip(encoded, values, strict=True))
            for values in zip(*encoded.values(), strict=True)
        ]
        return self.collate(rows).to(self.device)

    def asked(self, texts: Iterable[str], by_lines: bool) -> Iterator[Text]:
        """What somebody has typed, for a model of pairs in twos: with a tab between them, or one after the other;
        `by_lines` only with a tab."""
        texts = iter(texts)
        for text in texts:
            if not self.record.get("is_pair"):
                yield text
                continue
            first, tab, second = text.partition("\t")
            if not tab and not by_lines:
                second = next(texts, None)
            if second is None or (by_lines and not tab):
                columns = " and ".join(self.record["text_columns"])
                fix = "give two texts each time, or write a tab between them; --file reads the columns"
                raise Refusal(
                    f"this model reads pairs ({columns}), and here is one text",
                    visible(text, 60),
                    fix,
                )
            yield first, second

    def texts(self, path: Path, encoding: str = "") -> Iterator[Text]:
        """The texts of a file, from the columns that the model was trained on; a .txt file has one text a
        line, or a pair with a tab between."""
        if readers.is_plain_text(path):
            rows = readers.read(path, readers.Options(encoding))
            yield from self.asked((row["text"] for _, row in rows), by_lines=True)
            return
        columns = self.record.get("text_columns", ["text"])
        for number, row in readers.read(path, readers.Options(encoding)):
            row |= row["translation"] if isinstance(row.get("translation"), dict) else {}
            missing = next((name for name in columns if name not in row), None)
            if missing:
                what = f"no column {missing!r}; columns: {', '.join(row)}"
                raise Refusal(
                    what, readers.place(path, number), "name the columns as in the training data"
                )
            one = {name: [str(row[name] or "")] for name in columns}
            delimiter, is_pair = (
                self.flags.get("text_column_delimiter", " "),
                self.record.get("is_pair", False),
            )
            first, second = join(one, columns, delimiter, is_pair)
            yield (first[0], second[0]) if second else first[0]


class Classifier(Folder):
    """Labels or rates texts."""

    auto_class = "AutoModelForSequenceClassification"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        self.names = [self.config.id2label[number] for number in range(self.config.num_labels)]
        self.kind = self.config.problem_type or (
            SINGLE if self.config.num_labels > 1 else REGRESSION
        )
        self.max_length = max_length(
            self.flags.get("max_seq_length", 512), self.tokenizer, self.model
        )

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[dict[str, Any]]:
        """Prediction and scores; a number for regression (several by their names), a list for several labels."""
        logits = self.model(**self.encode(texts, self.max_length)).logits
        return [self._answer(row) for row in logits.float().cpu().numpy()]

    def _answer(self, logits: numpy.ndarray) -> dict[str, Any]:
        if self.kind == REGRESSION:
            numbers = dict(zip(self.names, logits.tolist(), strict=True))
            return {"prediction": numbers if len(numbers) > 1 else float(logits[0])}
        scores = dict(
            zip(self.names, classification.probabilities(logits, self.kind).tolist(), strict=True)
        )
        if self.kind == MULTI:
            return {
                "prediction": [name for name, score in scores.items() if score > 0.5],
                "scores": scores,
            }
        best = max(scores, key=scores.get)
        return {"prediction": best, "score": scores[best], "scores": scores}


class MaskFiller(Folder):
    """Fills the first mask of a text, as pipeline("fill-mask") does."""

    auto_class = "AutoModelForMaskedLM"
    best = 5

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        self.max_length = max_length(
            self.flags.get("max_seq_length", 512), self.tokenizer, self.model
        )

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[dict[str, Any]]:
        """The text with its mask filled, the word's score, and the five best words."""
        mask = self.tokenizer.mask_token
        missing = next((text for text in texts if mask not in text), None)
        if missing is not None:
            raise Refusal(
                f"no {mask} in {missing!r}",
                "the text",
                f"write {mask} where a word is to be filled in",
            )
        batch = self.encode(texts, self.max_length)
        cut = ~batch["input_ids"].eq(self.tokenizer.mask_token_id).any(1)
        if cut.any():
            what = (
                f"{mask} stands behind token {batch['input_ids'].shape[1]}, where the text is cut"
            )
            raise Refusal(
                what,
                f"the text {texts[int(cut.nonzero()[0])]!r:.60}",
                "shorten what stands before it",
            )
        logits = self.model(**batch).logits
        return [self._answer(*row) for row in zip(texts, batch["input_ids"], logits, strict=True)]

    def _answer(self, text: str, ids: torch.Tensor, logits: torch.Tensor) -> dict[str, Any]:
        place = ids.eq(self.tokenizer.mask_token_id).nonzero()[0, 0]
        scores, tokens = logits[place].float().softmax(-1).topk(self.best)
        words = [self.tokenizer.decode([token]).strip() for token in tokens]
        named = dict(zip(words, scores.tolist(), strict=True))
        filled = text.replace(self.tokenizer.mask_token, words[0], 1)
        return {"prediction": filled, "score": scores[0].item(), "scores": named}


class Writer(Folder):
    """Translates or summarizes, with the languages, prefix and length that the folder was trained with."""

    auto_class = "AutoModelForSeq2SeqLM"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        self.max_length = max_length(
            self.flags.get("max_source_length", 1024), self.tokenizer, self.model
        )

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[dict[str, Any]]:
        """The text that the model writes."""
        prefix = getattr(self.model.generation_config, "prefix", None) or ""
        batch = self.encode([prefix + text for text in texts], self.max_length)
        written = self.model.generate(**batch)
        decoded = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [{"prediction": text.strip()} for text in decoded]


class Continuer(Folder):
    """Goes on from a prompt."""

    auto_class = "AutoModelForCausalLM"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        kind = (config_of(Path(folder), trust_remote_code).architectures or [""])[0]
        if kind and not kind.endswith(CONTINUES):
            what = f"{folder} holds a {kind}, which goes on from no prompt"
            raise Refusal(what, "the folder", f"python cli.py predict {folder} TEXT")
        super().__init__(folder, trust_remote_code)
        self.room, _ = probes.positions(self.model)
        if probes.reads_both_sides(self.model):
            name = self.config.model_type
            warn(
                f"this {name} reads both sides of a word: what it writes says nothing of how good it is"
            )

    @torch.inference_mode()
    def write(self, prompt: str, settings: dict[str, Any], streamer: Any = None) -> list[str]:
        """The prompt with its continuation, `num_return_sequences` times; `settings` are those of `generate`.

        A prompt begins as the tokenizer begins a text; where it puts nothing there, an empty prompt is the token that
        ends a text: there the next one begins.
        """
        batch = torch.tensor([self._ids(prompt)], device=self.device)
        written = self.model.generate(
            batch, attention_mask=torch.ones_like(batch), streamer=streamer, **settings
        )
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in written]

    def check(self, prompt: str, settings: dict[str, Any]) -> None:
        """Refuses a prompt after which the model's positions end too early."""
        number, new = len(self._ids(prompt)), settings["max_new_tokens"]
        if number + new > self.room:
            what = f"{number} tokens of prompt and {new} new ones exceed {self.room} positions: {visible(prompt, 60)!r}"
            most = max(int(self.room) - number, 1)
            raise Refusal(what, "--max_new_tokens", f"--max_new_tokens {most}, or a shorter prompt")

    def _ids(self, prompt: str) -> list[int]:
        start, ids = (
            [*start_of_text(self.tokenizer)],
            self.tokenizer(prompt, add_special_tokens=False)["input_ids"],
        )
        begun = ids[: len(start)] == start  # the prompt itself says <s>
        return (ids if begun else [*start, *ids]) or [end_of_text(self.tokenizer)]

    def forbidden(self, words: list[str]) -> list[list[int]]:
        """Token ids of words as they stand at a text's begin and after a space: what `generate` is not to write. In
        another casing, or split into other tokens, a word may still be written."""
        forms = [form for word in words for form in (word, f" {word}")]
        found = [self.tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
        return [list(ids) for ids in dict.fromkeys(map(tuple, found)) if ids]


def open_folder(folder: str, trust_remote_code: bool = False) -> Folder:
    """The folder's model, ready to answer; refuses what is no trained folder."""
    config = config_of(Path(folder), trust_remote_code)
    kind = (config.architectures or [""])[0]
    if kind.endswith("ForSequenceClassification"):
        return Classifier(folder, trust_remote_code)
    if (
        kind.endswith("ForMaskedLM") or _read(Path(folder, "run.json")).get("task") == "fill-mask"
    ):  # BART's, XLM's
        return MaskFiller(folder, trust_remote_code)
    if config.is_encoder_decoder:
        return Writer(folder, trust_remote_code)
    if kind.endswith(CONTINUES):
        what, fix = (
            f"{folder} holds a causal language model",
            f"python cli.py generate {folder} --prompt …",
        )
        raise Refusal(what, "the folder", fix)
    raise Refusal(
        f"{folder} holds a {kind or config.model_type}, which answers nothing",
        "the folder",
        "train it first",
    )


def config_of(path: Path, trust_remote_code: bool = False) -> Any:
    """The configuration of a trained folder; of adapters that of the model under them."""
    path = Path(model_folders.named(str(path), "the folder"))
    if folder := adapters.folder_of(str(path)):
        return adapters.config_of(folder, "the folder", trust_remote_code)
    if not path.exists():
        raise Refusal(
            f"no folder {path}",
            "the folder",
            model_folders.near(path) or "name a run's --output_dir",
        )
    if not (path / "config.json").is_file():
        raise Refusal(f"{path} holds no trained model", "the folder", "name a run's --output_dir")
    return model_folders.load(AutoConfig, str(path), "the folder", trust_remote_code)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.load(text, PlainLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Refusal(
            f"not what a run wrote: {reason(error)}", str(path), "name a run's --output_dir"
        ) from None
