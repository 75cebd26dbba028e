"""What a run leaves beside the model: run.json, predictions.jsonl, plots, the model card, and two tables."""

import hashlib
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from recipes.common.config.flags import own_flags
from recipes.common.data.splits import Splits
from recipes.common.model.loading import Texts, parameters
from recipes.common.model.tokenizer_training import as_text, default_algorithm, round_trip, writes
from recipes.common.report import model_card, run_record
from recipes.common.report.run_identity import Run
from recipes.common.report.task_report import Task
from recipes.common.runtime.hashing import content_hash
from recipes.common.runtime.messages import visible, warn
from recipes.common.tokens.encoding import Tokens
from recipes.common.train.samplers import padding_share
from recipes.common.train.trainer import Trainer

GIVES_BACK = 0.99  # of the text, at least: a model writes what its tokenizer gives back


class Record:
    """Collects what a run's report needs while the run goes on, and writes it at the end."""

    def __init__(
        self, trainer: Trainer, arguments: Any, splits: Splits, tokens: Tokens, task: Task
    ):
        self.trainer, self.arguments, self.splits, self.tokens, self.task = (
            trainer,
            arguments,
            splits,
            tokens,
            task,
        )
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
            size = model_card.size(self.tokens.counts.get(name))
            print(f"{name:<11} {count['used']:,} of {count['read']:,} rows{skipped}, {size}")
        for name, value in self._model_facts().items():
            print(f"{name:<11} {visible(value)}")

    def fingerprint(self, run: Run) -> dict[str, Any]:
        """What a checkpoint of this run belongs to: it goes on only where all of this is the same."""
        arguments = self.trainer.args
        config = {
            k: v
            for k, v in self.trainer.model.config.to_dict().items()
            if not k.startswith(("_", "transformers"))
        }
        facts = {
            "flags": run.flags,
            "inputs": {name: one["sha256"] for name, one in run.inputs.items()},
            "data": {name: self.splits.read.get(name) for name in ("train", "validation")},
            "tokenizer": hashlib.sha256(
                as_text(self.trainer.processing_class).encode()
            ).hexdigest(),
            "model": hashlib.sha256(
                json.dumps(config, sort_keys=True, default=str).encode()
            ).hexdigest(),
            "versions": {name: metadata.version(name) for name in run_record.PACKAGES},
            "rows_a_step": self.trainer.plan.rows_per_step,
        }
        if (
            arguments.deepspeed or self.trainer.is_fsdp_enabled
        ):  # the optimizer is shared out between so many processes
            facts["num_processes"] = arguments.world_size
        return facts

    def _model_facts(self) -> dict[str, str]:
        arguments = self.trainer.args
        total, trained = parameters(self.trainer.model)
        share = "" if trained == total else f", {trained:,} trained"
        origin = self.arguments.model_name_or_path or "from scratch"
        precision = (
            "bf16 (--bf16 false trains in fp32)"
            if arguments.bf16
            else "fp16"
            if arguments.fp16
            else "fp32"
        )
        facts = self._trained_tokenizer()
        facts |= {
            "model": f"{type(self.trainer.model).__name__}, {origin}, {total:,} parameters{share}"
        }
        if new := getattr(self.trainer.model, "new_parts", None):
            facts["head"] = f"new, the checkpoint has none: {', '.join(new)}"
        if arguments.do_train and self.trainer.train_dataset is not None:
            facts["training"] = (
                f"{self._steps()}, learning rate {arguments.learning_rate:g}{self._padding()}"
            )
        return facts | {
            "device": f"{run_record.hardware()}, {precision}",
            "output": str(self.output_dir),
        }

    def _trained_tokenizer(self) -> dict[str, str]:
        """How a tokenizer was trained on the training text, and how much of that text it gives back as it was."""
        own = self.arguments
        if own.tokenizer_name or own.model_name_or_path:
            return {}
        tokenizer, columns = self.trainer.processing_class, [*self.splits.texts, self.splits.target]
        model_type = self.trainer.model.config.model_type
        texts = Texts(self.splits.train, [name for name in columns if name])
        spaces = writes(model_type)
        share = round_trip(tokenizer, map(str.lower, texts) if own.do_lower_case else texts, spaces)
        algorithm = own.tokenizer_algorithm or default_algorithm(model_type)
        hint = " (--tokenizer_algorithm bpe: all of it)" if spaces and share < GIVES_BACK else ""
        text = f"{'lower-cased ' if own.do_lower_case else ''}text {'as it was' if spaces else 'but for its spaces'}"
        facts = f"{algorithm}, {len(tokenizer):,} tokens, gives back {share:.1%} of the {text}"
        return {"tokenizer": f"{facts}{hint}"}

    def _steps(self) -> str:
        number = self.trainer.plan.rows_per_step
        budget = getattr(self.arguments, "tokens_per_batch", None)
        size = f"{number} x {budget:,} tokens" if budget else f"{number} {self.task.unit}"
        return f"{self.trainer.plan.steps:,} steps of {size}"

    def _padding(self) -> str:
        """How much of the batches is padding, where rows are padded to the longest of their batch."""
        dataset, order = self.trainer.train_dataset, self.trainer.order
        padded = (
            "length" in (getattr(dataset, "column_names", None) or [])
            and not self.arguments.pad_to_max_length
        )
        return (
            f", {padding_share(order, dataset['length'][:]):.1%} padding"
            if padded and order is not None
            else ""
        )

    def add_scores(self, split: str, scores: dict[str, float]) -> None:
        """Writes {split}_results.json, and into all_results.json the scores of all splits so far.

        Trainer.save_metrics reads all_results.json back, which a run that was stopped while it wrote left empty.
        """
        self.scores |= scores
        if self.trainer.is_world_process_zero():
            run_record.write_json(
                self.output_dir / f"{split}_results.json", dict(sorted(scores.items()))
            )
            run_record.write_json(
                self.output_dir / "all_results.json", dict(sorted(self.scores.items()))
            )

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
            "text_columns": [self.splits.columns.get(name, name) for name in self.splits.texts],
            "is_pair": self.splits.is_pair,
            "target_column": self.splits.columns.get(self.splits.target, self.splits.target),
            "task": self.task.tag,
            "shown": (*self.task.shown, *self.task.others(self.scores, model_card.TITLES)),
            "own_flags": own_flags(type(self.arguments)),
            "data": self.splits.read,
            "data_sha256": self.splits.hashes,
            "tokenizer_sha256": content_hash(tokenizer_file) if tokenizer_file.exists() else None,
            "rows": self.splits.accounting,
            "tokens": self.tokens.counts,
            "parameters": dict(
                zip(("all", "trained"), parameters(self.trainer.model), strict=True)
            ),
            "adapters": hasattr(self.trainer.model, "peft_config"),
        }
        history = self.trainer.state.log_history
        plots = model_card.draw(self.output_dir / "plots", history, self.predictions, self.task)
        flags = yaml.safe_load((self.output_dir / "run.yaml").read_text(encoding="utf-8"))
        text = model_card.write(facts, flags, self.scores, self.task, examples, plots)
        (self.output_dir / "README.md").write_text(text, encoding="utf-8", errors="surrogateescape")
        table = model_card.score_table(self.scores, facts["shown"])
        run_record.write_json(path, facts | {"status": "complete", "table": table})
        print(f"\n{table}\n\nreport      {visible(str(self.output_dir / 'README.md'))}")
        self._warn_of_nothing_learned(flags)

    def _warn_of_nothing_learned(self, flags: dict[str, Any]) -> None:
        for prefix in model_card.TITLES:
            if said := model_card.no_better(self.scores, prefix, self.task):
                warn(f"{said}; {_what_to_try(flags)}")


def _what_to_try(flags: dict[str, Any]) -> str:
    """What most often helps a model that has learned nothing."""
    if not flags.get("do_train"):
        return "is it the right checkpoint, and do its classes mean what the labels mean?"
    tries = ["more --num_train_epochs", "another --learning_rate"]
    tries += [] if flags.get("model_name_or_path") else ["a pretrained --model_name_or_path"]
    return f"try {', '.join(tries)}, and look whether texts and answers belong together"
