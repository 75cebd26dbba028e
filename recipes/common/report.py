"""What a run leaves beside the model: run.yaml, run.json, predictions.jsonl, plots, the model card, and two tables."""

import glob
import hashlib
import itertools
import json
import math
import os
import platform
import shlex
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
import yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from recipes.common import card
from recipes.common.args import DATA_FILES, ROOT
from recipes.common.configuration import PlainLoader
from recipes.common.data import Splits
from recipes.common.errors import Refusal, visible
from recipes.common.files import content_hash
from recipes.common.folders import ADAPTED
from recipes.common.manifests import delete
from recipes.common.models import Texts, parameters
from recipes.common.orders import padding_share
from recipes.common.secret import masked
from recipes.common.tasks import Task
from recipes.common.tokens import Tokens
from recipes.common.trainer import Trainer
from recipes.common.vocabularies import as_text, default_algorithm, round_trip

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "peft", "evaluate", "scikit-learn")
RESULTS = ("all_results.json", "train_results.json", "eval_results.json", "predict_results.json")
MODEL = ("config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json")
TOKENIZER += ("merges.txt", "source.spm", "target.spm", "sentencepiece.bpe.model", "spiece.model")
LOCK = ".lock"
GIVES_BACK = 0.99  # of the text, at least: a model writes what its tokenizer gives back
_locks: list[IO] = []
OTHERS = ("README.md", "run.yaml", "run.json", "predictions.jsonl", "trainer_state.json", "not_finite.json")


def begin(output_dir: Path, resolved: dict[str, Any], command: str) -> None:
    """Claims the folder: run.yaml with every resolved flag, run.json with the command and the machine."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock(output_dir)
        _replace(output_dir / "run.yaml", yaml.safe_dump(resolved, allow_unicode=True, sort_keys=True))
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        fix = "name a folder that you may write"
        raise Refusal(f"cannot write: {error.strerror}", f"--output_dir {output_dir}", fix) from None
    facts = {
        "status": "unfinished",
        "command": shlex.join(masked(shlex.split(command))),
        "configurations": _configurations(shlex.split(command)),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "seed": resolved.get("seed"),
        "data_seed": resolved.get("data_seed", resolved.get("seed")),
    }
    _write_json(output_dir / "run.json", facts)


def lock(output_dir: Path) -> None:
    """Keeps other processes out of the folder as long as this one lives; its children do not inherit the lock."""
    if fcntl is None:
        return
    stream = (output_dir / LOCK).open("w")
    _locks.append(stream)  # closing it would unlock
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fix = "wait for it, stop it, or choose another --output_dir"
        raise Refusal(f"another process trains in {output_dir}", "--output_dir", fix) from None


def earlier(output_dir: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The flags (run.yaml) and facts (run.json) of the run that began in this folder; None where there was none."""
    try:
        flags = yaml.load((output_dir / "run.yaml").read_text(encoding="utf-8"), PlainLoader)
        facts = json.loads((output_dir / "run.json").read_text(encoding="utf-8"))
        numbers = [flags["per_device_train_batch_size"], flags["gradient_accumulation_steps"], facts["world_size"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError):
        return None
    whole = all(isinstance(number, int) for number in numbers) and isinstance(facts.get("data_sha256", {}), dict)
    return (flags, facts) if whole else None


def other_data(facts: dict[str, Any], flags: dict[str, Any]) -> str:
    """The first file that a recorded run has read and that holds something else by now, or that has come beside those
    of a pattern; "" where there is none. Files that are gone count for nothing."""
    paths = {Path(name): known for name, known in facts.get("data_sha256", {}).items()}
    changed = (path for path, known in paths.items() if path.is_file() and content_hash(path) != known)
    patterns = (pattern for name in DATA_FILES for pattern in flags.get(name) or ())
    read = (set(map(Path, glob.glob(pattern, recursive=True))) for pattern in patterns)
    added = (path for found in read if found & paths.keys() for path in sorted(found - paths.keys()))
    return next((str(path) for path in itertools.chain(changed, added)), "")


def remove(output_dir: Path) -> None:
    """Deletes what a run left in the folder, and nothing else."""
    if earlier(output_dir) is None:
        return
    for name in (*RESULTS, *MODEL, *ADAPTER, *TOKENIZER, *OTHERS):
        (output_dir / name).unlink(missing_ok=True)
    folders = (path for pattern in ("checkpoint-*", ".saving-*", ".removing-*") for path in output_dir.glob(pattern))
    for folder in [*folders, output_dir / "plots", output_dir / ADAPTED]:
        delete(folder)


def hardware() -> str:
    """The device that trains, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


class Record:
    """Collects what a run's report needs while the run goes on, and writes it at the end."""

    def __init__(self, trainer: Trainer, arguments: Any, splits: Splits, tokens: Tokens, task: Task):
        self.trainer, self.arguments, self.splits, self.tokens, self.task = trainer, arguments, splits, tokens, task
        self.output_dir = Path(trainer.args.output_dir)
        self.scores: dict[str, float] = {}
        self.predictions: list[dict[str, Any]] = []
        self.predicted_split = ""
        self.began = time.time()

    def print_summary(self) -> None:
        """One table before the first step: rows, tokens, model, steps, device and precision."""
        if not self.trainer.is_world_process_zero():
            return
        for name, count in self.splits.accounting.items():
            skipped = "".join(f", {number} {reason}" for reason, number in count["skipped"].items())
            size = card.size(self.tokens.counts.get(name))
            print(f"{name:<11} {count['used']:,} of {count['read']:,} rows{skipped}, {size}")
        for name, value in self._model_facts().items():
            print(f"{name:<11} {visible(value)}")

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint of this run belongs to, beside its flags: it goes on only where these are the same."""
        arguments = self.trainer.args
        config = {
            k: v for k, v in self.trainer.model.config.to_dict().items() if not k.startswith(("_", "transformers"))
        }
        facts = {
            "data": sorted(self.splits.hashes.values()),
            "tokenizer": hashlib.sha256(as_text(self.trainer.processing_class).encode()).hexdigest(),
            "model": hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest(),
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "rows_a_step": self.trainer.rows_a_step,
        }
        if arguments.deepspeed or self.trainer.is_fsdp_enabled:  # the optimizer is shared out between so many processes
            facts["num_processes"] = arguments.world_size
        return facts

    def _model_facts(self) -> dict[str, str]:
        arguments = self.trainer.args
        total, trained = parameters(self.trainer.model)
        share = "" if trained == total else f", {trained:,} trained"
        origin = self.arguments.model_name_or_path or "from scratch"
        precision = "bf16 (--bf16 false trains in fp32)" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
        facts = self._trained_tokenizer()
        facts |= {"model": f"{type(self.trainer.model).__name__}, {origin}, {total:,} parameters{share}"}
        if arguments.do_train and self.trainer.train_dataset is not None:
            facts["training"] = f"{self._steps()}, learning rate {arguments.learning_rate:g}{self._padding()}"
        return facts | {"device": f"{hardware()}, {precision}", "output": str(self.output_dir)}

    def _trained_tokenizer(self) -> dict[str, str]:
        """How a tokenizer was trained on the training text, and how much of that text it gives back as it was."""
        own = self.arguments
        if own.tokenizer_name or own.model_name_or_path:
            return {}
        tokenizer, columns = self.trainer.processing_class, [*self.splits.texts, self.splits.target]
        model_type = self.trainer.model.config.model_type
        texts = Texts(self.splits.train, [name for name in columns if name])
        share = round_trip(tokenizer, map(str.lower, texts) if own.do_lower_case else texts)
        algorithm = own.tokenizer_algorithm or default_algorithm(model_type)
        writes = default_algorithm(model_type) == "bpe"
        hint = " (--tokenizer_algorithm bpe: all of it)" if writes and share < GIVES_BACK else ""
        text = "lower-cased text" if own.do_lower_case else "text"
        facts = f"{algorithm}, {len(tokenizer):,} tokens, gives back {share:.1%} of the {text} as it was"
        return {"tokenizer": f"{facts}{hint}"}

    def _steps(self) -> str:
        arguments, order, number = self.trainer.args, self.trainer.order, self.trainer.rows_a_step
        budget = getattr(self.arguments, "tokens_per_batch", None)
        size = f"{number} x {budget:,} tokens" if budget else f"{number} {self.task.unit}"
        steps = arguments.max_steps
        if steps <= 0:
            an_epoch = -(-len(self.trainer.train_dataset) // number) if order is None else order.steps
            steps = math.ceil(an_epoch * arguments.num_train_epochs)
        return f"{steps:,} steps of {size}"

    def _padding(self) -> str:
        """How much of the batches is padding, where rows are padded to the longest of their batch."""
        dataset, order = self.trainer.train_dataset, self.trainer.order
        padded = "length" in (getattr(dataset, "column_names", None) or []) and not self.arguments.pad_to_max_length
        return f", {padding_share(order, dataset['length'][:]):.1%} padding" if padded and order is not None else ""

    def add_scores(self, split: str, scores: dict[str, float]) -> None:
        """Writes {split}_results.json, and into all_results.json the scores of all splits so far.

        Trainer.save_metrics reads all_results.json back, which a run that was stopped while it wrote left empty.
        """
        self.scores |= scores
        if self.trainer.is_world_process_zero():
            _write_json(self.output_dir / f"{split}_results.json", dict(sorted(scores.items())))
            _write_json(self.output_dir / "all_results.json", dict(sorted(self.scores.items())))

    def add_predictions(self, split: str, rows: list[dict[str, Any]]) -> None:
        """Writes predictions.jsonl: the test set's where it is predicted, otherwise the validation set's."""
        self.predictions, self.predicted_split = rows, split
        if not self.trainer.is_world_process_zero():
            return
        with (self.output_dir / "predictions.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def finish(self, examples: str) -> None:
        """run.json completed, plots, the model card, the closing table; the run counts as complete only now."""
        path = self.output_dir / "run.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        tokenizer_file = self.output_dir / "tokenizer.json"
        facts |= {
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(time.time() - self.began, 1),
            "text_columns": self.splits.texts,
            "is_pair": self.splits.is_pair,
            "target_column": self.splits.target,
            "task": self.task.tag,
            "shown": self.task.shown,
            "data_sha256": self.splits.hashes,
            "tokenizer_sha256": content_hash(tokenizer_file) if tokenizer_file.exists() else None,
            "rows": self.splits.accounting,
            "tokens": self.tokens.counts,
            "parameters": dict(zip(("all", "trained"), parameters(self.trainer.model), strict=True)),
        }
        history = self.trainer.state.log_history
        plots = card.draw(self.output_dir / "plots", history, self.predictions, self.task)
        flags = yaml.safe_load((self.output_dir / "run.yaml").read_text(encoding="utf-8"))
        text = card.write(facts, flags, self.scores, self.task, examples, plots)
        (self.output_dir / "README.md").write_text(text, encoding="utf-8")
        table = card.score_table(self.scores, self.task.shown)
        _write_json(path, facts | {"status": "complete", "table": table})
        print(f"\n{table}\n\nreport      {visible(str(self.output_dir / 'README.md'))}")


def _configurations(words: list[str]) -> dict[str, str]:
    """The files of flags that a command reads, with their hashes."""
    named = [after for word, after in itertools.pairwise(words) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    paths = [Path(words[1]).with_name("config.yaml"), *map(Path, named)]
    return {str(path): content_hash(path) for path in paths if path.is_file()}


def _git_commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _replace(path, json.dumps(content, indent=2, ensure_ascii=False))


def _replace(path: Path, text: str) -> None:
    """Written aside and renamed, so that a reader never finds half of it."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
