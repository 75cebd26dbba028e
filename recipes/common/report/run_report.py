"""Writes what a run leaves beside the model.

That is run.json, predictions.jsonl, plots, the model card, and two tables.
"""

import hashlib
import json
import time
from importlib import metadata
from typing import Any, Protocol

import torch
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from recipes.common.config.flags import Arguments, own_flags
from recipes.common.data.splits import Splits
from recipes.common.model.loading import Texts, parameters
from recipes.common.model.tokenizer_training import as_text, default_algorithm, round_trip, writes
from recipes.common.report import learning_curves, model_card, run_record, scores_table
from recipes.common.report.run_identity import Run
from recipes.common.report.task import Row, Task
from recipes.common.runtime.hashing import content_hash
from recipes.common.runtime.messages import visible, warn
from recipes.common.tokens.encoding import Tokens
from recipes.common.train.fused_lm_loss import Head
from recipes.common.train.losses import TokenLoss
from recipes.common.train.plan import Plan
from recipes.common.train.samplers import Shuffled, TokenBatches, padding_share

GIVES_BACK = 0.99  # the least share of the text: a model writes what its tokenizer gives back


class Trained(Protocol):
    """What a report needs of a recipe's Trainer: it has a task and tokens."""

    args: TrainingArguments
    state: TrainerState
    model: PreTrainedModel
    processing_class: PreTrainedTokenizerBase
    task: Task
    tokens: Tokens
    train_dataset: torch.utils.data.Dataset | None
    sampler: Shuffled | TokenBatches | None
    head: Head | None
    tokens_per_batch: int | None
    is_fsdp_enabled: bool

    @property
    def plan(self) -> Plan:
        """Returns how many batches and steps the training takes."""

    def is_world_process_zero(self) -> bool:
        """Whether this process writes what the run leaves."""


class RunReport:
    """Collects what a run's report needs while the run goes on, and writes it at the end."""

    def __init__(self, trainer: Trained, arguments: Arguments, splits: Splits):
        self.trainer, self.arguments, self.splits = trainer, arguments, splits
        self.tokens, self.task = trainer.tokens, trainer.task
        self.output_dir = run_record.folder_of(trainer.args)
        self.scores: dict[str, float] = {}
        self.predictions: list[Row] = []
        self.predicted_split = ""
        self.began = time.time()

    # --- Before the training ---

    def print_summary(self) -> None:
        """Prints one table before the first step: rows, tokens, model, steps, device and
        precision."""
        if not self.trainer.is_world_process_zero():
            return
        for name, count in self.splits.accounting.items():
            skipped = [f", {number} {reason}" for reason, number in count["skipped"].items()]
            size = scores_table.size(self.tokens.counts.get(name))
            rows = f"{count['used']:,} of {count['read']:,} rows"
            print(f"{name:<11} {rows}{''.join(skipped)}, {size}")
        for name, value in self._model_facts().items():
            print(f"{name:<11} {visible(value)}")

    def fingerprint(self, run: Run) -> dict[str, Any]:
        """Returns what a checkpoint of this run belongs to: it is continued only where all of this
        is the same."""
        arguments = self.trainer.args
        config: dict[str, Any] = {}
        for key, value in self.trainer.model.config.to_dict().items():
            if not key.startswith(("_", "transformers")):
                config[key] = value
        tokenizer = as_text(self.trainer.processing_class)
        facts = {
            "flags": run.flags,
            "inputs": {name: one["sha256"] for name, one in run.inputs.items()},
            "data": {name: self.splits.read.get(name) for name in ("train", "validation")},
            "tokenizer": _digest(tokenizer),
            "model": _digest(json.dumps(config, sort_keys=True, default=str)),
            "versions": {name: metadata.version(name) for name in run_record.PACKAGES},
            "rows_per_step": self.trainer.plan.rows_per_step,
        }
        # A sharded optimizer has one part per process.
        if arguments.deepspeed or self.trainer.is_fsdp_enabled:
            facts["num_processes"] = arguments.world_size
        return facts

    def _model_facts(self) -> dict[str, str]:
        """Returns what the summary says below the splits."""
        arguments, model = self.trainer.args, self.trainer.model
        total, trained = parameters(model)
        size = f"{total:,} parameters"
        if trained != total:
            size += f", {trained:,} trained"
        origin = self.arguments.model_name_or_path or "from scratch"
        facts = self._trained_tokenizer()
        facts["model"] = f"{type(model).__name__}, {origin}, {size}"
        if new := getattr(model, "new_parts", None):
            facts["head"] = f"new, the checkpoint has none: {', '.join(new)}"
        if isinstance(self.task.loss, TokenLoss) and self.trainer.head is None:
            facts["logits"] = "of all positions, also of those without a label: more memory"
        if arguments.do_train and self.trainer.train_dataset is not None:
            rate = f"learning rate {arguments.learning_rate:g}"
            facts["training"] = f"{self._steps()}, {rate}{self._padding()}"
        facts["device"] = f"{run_record.hardware()}, {_precision(arguments)}"
        facts["output"] = str(self.output_dir)
        return facts

    def _trained_tokenizer(self) -> dict[str, str]:
        """Returns how a tokenizer was trained on the training text, and how much of that text it
        gives back."""
        own = self.arguments
        if own.tokenizer_name or own.model_name_or_path:
            return {}
        tokenizer, model_type = self.trainer.processing_class, self.trainer.model.config.model_type
        texts = Texts(self.splits)
        spaces = writes(model_type)
        lower = map(str.lower, texts) if own.do_lower_case else texts
        share = round_trip(tokenizer, lower, spaces)
        algorithm = own.tokenizer_algorithm or default_algorithm(model_type)
        text = "text as it was" if spaces else "text but for its spaces"
        if own.do_lower_case:
            text = f"lower-cased {text}"
        facts = f"{algorithm}, {len(tokenizer):,} tokens, gives back {share:.1%} of the {text}"
        if spaces and share < GIVES_BACK:
            facts += " (--tokenizer_algorithm bpe: all of it)"
        return {"tokenizer": facts}

    def _steps(self) -> str:
        number = self.trainer.plan.rows_per_step
        size = f"{number} {self.task.unit}"
        if budget := self.trainer.tokens_per_batch:
            size = f"{number} x {budget:,} tokens"
        return f"{self.trainer.plan.steps:,} steps of {size}"

    def _padding(self) -> str:
        """Returns how much of the batches is padding, where rows are padded to the longest of their
        batch."""
        dataset, sampler = self.trainer.train_dataset, self.trainer.sampler
        has_lengths = "length" in (getattr(dataset, "column_names", None) or [])
        pads_all = self.arguments.pad_to_max_length
        if dataset is None or not has_lengths or pads_all or sampler is None:
            return ""
        return f", {padding_share(sampler, dataset['length'][:]):.1%} padding"

    # --- After each evaluation ---

    def add_scores(self, split: str, scores: dict[str, float]) -> None:
        """Writes {split}_results.json, and into all_results.json the scores of all splits so far.

        Trainer.save_metrics reads all_results.json back, which a run that was stopped while it
        wrote left empty.
        """
        self.scores |= scores
        if self.trainer.is_world_process_zero():
            own, whole = dict(sorted(scores.items())), dict(sorted(self.scores.items()))
            run_record.write_json(self.output_dir / f"{split}_results.json", own)
            run_record.write_json(self.output_dir / "all_results.json", whole)

    def add_predictions(self, split: str, output: PredictionOutput) -> None:
        """Writes predictions.jsonl: the test set's where it is predicted, otherwise the validation
        set's."""
        self.predicted_split = split
        if not self.trainer.is_world_process_zero():
            return
        self.predictions = self.task.rows(split, output)
        with (self.output_dir / "predictions.jsonl").open("w", encoding="utf-8") as stream:
            for row in self.predictions:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def examples(self) -> str:
        """Returns the examples of the model card; called by every process.

        A sharded model (ZeRO-3, FSDP2) generates texts only when all processes take part.
        """
        if not self.predicted_split:
            return ""
        return self.task.examples(self.predictions, self.predicted_split)

    # --- At the end ---

    def finish(self, examples: str) -> None:
        """Completes run.json, draws plots, writes the model card, prints the closing table.

        The run counts as complete only now.
        """
        path = self.output_dir / "run.json"
        facts = json.loads(path.read_text(encoding="utf-8")) | self._facts()
        history = self.trainer.state.log_history
        folder = self.output_dir / "plots"
        drawn = learning_curves.draw(folder, history, self.predictions, self.task)
        flags = yaml.safe_load((self.output_dir / "run.yaml").read_text(encoding="utf-8"))
        card = model_card.write(facts, flags, self.scores, self.task, examples, drawn)
        readme = self.output_dir / "README.md"
        readme.write_text(card, encoding="utf-8", errors="surrogateescape")
        table = scores_table.closing(self.scores, facts["shown"])
        run_record.write_json(path, facts | {"status": "complete", "table": table})
        print(f"\n{table}\n\nreport      {visible(str(readme))}")
        for prefix in scores_table.TITLES:
            if said := scores_table.no_better(self.scores, prefix, self.task):
                warn(f"{said}; {_what_to_try(flags)}")

    def _facts(self) -> dict[str, Any]:
        """Returns what run.json says of a run that is complete."""
        splits, model = self.splits, self.trainer.model
        names = splits.columns
        tokenizer_file = self.output_dir / "tokenizer.json"
        own_metrics = self.task.others(self.scores, scores_table.TITLES)
        total, trained = parameters(model)
        return {
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(time.time() - self.began, 1),
            "text_columns": [names.get(name, name) for name in splits.texts],
            "is_pair": splits.is_pair,
            "target_column": names.get(splits.target, splits.target),
            "task": self.task.tag,
            "shown": (*self.task.shown, *own_metrics),
            "own_flags": own_flags(self.arguments),
            "data": splits.read,
            "data_sha256": splits.hashes,
            "tokenizer_sha256": content_hash(tokenizer_file) if tokenizer_file.exists() else None,
            "rows": splits.accounting,
            "tokens": self.tokens.counts,
            "parameters": {"all": total, "trained": trained},
            "adapters": hasattr(model, "peft_config"),
        }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _precision(arguments: TrainingArguments) -> str:
    if arguments.bf16:
        return "bf16 (--bf16 false trains in fp32)"
    return "fp16" if arguments.fp16 else "fp32"


def _what_to_try(flags: dict[str, Any]) -> str:
    """Returns what most often helps a model that has learned nothing."""
    if not flags.get("do_train"):
        return "is it the right checkpoint, and do its classes mean what the labels mean?"
    tries = "try more --num_train_epochs, another --learning_rate"
    if not flags.get("model_name_or_path"):
        tries += ", a pretrained --model_name_or_path"
    return f"{tries}, and look whether texts and answers belong together"
