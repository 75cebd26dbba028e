"""A run from its first line to its last: start() before anything is loaded, run() to train, evaluate and report."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import EarlyStoppingCallback, set_seed

from recipes.common import allocation, args, checkpoints, defaults, engines, manifests, metrics, report, signals, world
from recipes.common.data import Splits
from recipes.common.errors import COMPLETE, Refusal, is_main_process, note, visible_lines
from recipes.common.precedence import HEADLINE
from recipes.common.tasks import Task
from recipes.common.tokens import Tokens
from recipes.common.trainer import Trainer

# Flags that change what is shown or where a run goes on, not what is learned.
FREE_TO_CHANGE = {"logging_steps", "disable_tqdm", "report_to", "run_name", "save_total_limit", "log_level", "use_cpu"}
FREE_TO_CHANGE |= {"num_processes", "save_steps", "dataloader_num_workers", "dataloader_prefetch_factor"}
FREE_TO_CHANGE |= {"per_device_eval_batch_size", "eval_accumulation_steps", "gradient_checkpointing"}
FREE_TO_CHANGE |= {"activation_checkpointing", "ddp_timeout", "preprocessing_num_workers"}
FREE_TO_CHANGE |= {"prepared_dir", "dataloader_pin_memory", "dataloader_persistent_workers"}
FEW = 8  # rows whose evaluation tells which metrics there are
SPLIT = {"per_device_train_batch_size", "gradient_accumulation_steps"}  # of a step, into processes and micro-batches


def start(arguments_class: type, recipe: str, argv: list[str] | None = None) -> tuple[Any, Any]:
    """The run's arguments, its output folder claimed: complete runs end here, foreign folders are refused."""
    arguments, training_arguments = args.parse(arguments_class, recipe, argv)
    metrics.also_compute(arguments, training_arguments.metric_for_best_model)
    _quiet(training_arguments)
    signals.listen()
    engines.check(arguments, training_arguments)
    world.join(training_arguments, arguments.num_processes)
    set_seed(training_arguments.seed)
    if training_arguments.device.type == "cpu":
        allocation.keep()
    if getattr(arguments, "prepare_only", False):  # no run begins: nothing is claimed
        return arguments, training_arguments
    output_dir = Path(training_arguments.output_dir)
    resolved = args.to_dict(arguments, training_arguments, recipe)
    complete = is_main_process() and _claim(output_dir, arguments, resolved)
    if world.exchange(complete)[0]:
        sys.exit(COMPLETE)
    if is_main_process():
        command = ["python", *map(shlex.quote, [os.path.relpath(recipe), *(sys.argv[1:] if argv is None else argv)])]
        report.begin(output_dir, resolved, " ".join(command))
    return arguments, training_arguments


def run(
    trainer: Trainer,
    arguments: Any,
    splits: Splits,
    tokens: Tokens,
    task: Task,
) -> dict[str, float]:
    """Trains, evaluates and predicts as the flags say, and leaves the output folder's whole contract; the metrics."""
    training_arguments = trainer.args
    training_arguments.do_predict &= splits.test is not None  # the process that has read the data may have found none
    record = report.Record(trainer, arguments, splits, tokens, task)
    _judge_by(task, trainer, tokens.validation)
    record.print_summary()
    world.check_equal(trainer.model)
    if arguments.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(arguments.early_stopping_patience))
    if training_arguments.do_train:
        trainer.fingerprint = record.fingerprint()
        record.add_scores("train", _train(trainer, tokens, arguments.allow_changed or ()))
    if training_arguments.do_eval:
        _measure(trainer, record, "validation", tokens.validation, "eval")
    if training_arguments.do_predict:
        _measure(trainer, record, "test", tokens.test, "predict")
    # By every process: a model that is shared out (ZeRO-3, FSDP2) writes texts only together.
    examples = task.examples(record.predictions, record.predicted_split) if record.predicted_split else ""
    if trainer.is_world_process_zero():
        record.finish(examples)
    if training_arguments.push_to_hub:
        trainer.push_to_hub()
    world.leave()
    signals.leave()
    return record.scores


def _judge_by(task: Task, trainer: Trainer, validation: Any) -> None:
    """The best model is the one of the best headline metric; by Trainer's choice, the loss, an early epoch wins whose
    accuracy is a point or two lower: the loss rises as soon as the model grows sure of its errors.

    A metric that was named and that no evaluation gives is refused: a few rows tell.
    """
    name = trainer.args.metric_for_best_model
    if name == HEADLINE:
        trainer.args.metric_for_best_model = task.headline
        trainer.args.greater_is_better = task.headline not in defaults.LOWER_IS_BETTER
    elif name and name.removeprefix("eval_") not in ("loss", task.headline) and hasattr(validation, "select"):
        few = validation.select(range(min(FEW, len(validation))))
        found = trainer.predict(few, metric_key_prefix="eval").metrics
        trainer.check_metric(name, [*found, *(f"eval_{shown}" for shown in task.shown)])


def _quiet(training_arguments: Any) -> None:
    """Libraries speak up from warnings on; bars and the report are this project's own."""
    level = training_arguments.get_process_log_level() if training_arguments.log_level != "passive" else logging.ERROR
    transformers.utils.logging.set_verbosity(level)
    datasets.utils.logging.set_verbosity(level)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's use of it
    transformers.utils.logging.disable_progress_bar()  # of loading and saving; training has its own bar


def _claim(output_dir: Path, arguments: Any, resolved: dict[str, Any]) -> bool:
    """Whether the run that was asked for is complete; refuses a folder that holds another one."""
    if output_dir.exists() and not output_dir.is_dir():
        raise Refusal(f"{output_dir} is a file", "--output_dir", "name a folder")
    if arguments.overwrite_output_dir and output_dir.exists():
        report.lock(output_dir)  # nothing of a run that still goes on is removed
        report.remove(output_dir)
    earlier = report.earlier(output_dir)
    if earlier is None:
        if (output_dir / "config.json").exists():
            fix = "choose another --output_dir, or move that model away"
            raise Refusal(f"{output_dir} holds a model that is not from this recipe", "--output_dir", fix)
        return False
    flags, facts = earlier
    complete = facts.get("status") == "complete"
    free = FREE_TO_CHANGE | set(() if complete else arguments.allow_changed or ())
    if _rows_a_step(flags, facts["world_size"]) == _rows_a_step(resolved, int(os.environ.get("WORLD_SIZE", "1"))):
        free |= SPLIT
    changed = [key for key in sorted({*flags, *resolved} - free) if flags.get(key) != resolved.get(key)]
    if changed:
        shown = "; ".join(f"--{key} {flags.get(key)} -> {resolved.get(key)}" for key in changed)
        goes_on = "" if complete else f"--allow_changed {' '.join(changed)} goes on all the same; "
        fix = f"{goes_on}another --output_dir keeps both; --overwrite_output_dir begins anew"
        raise Refusal(f"{output_dir} holds a run with other arguments: {shown}", "--output_dir", fix)
    if complete and (path := report.other_data(facts, resolved)):
        fix = "another --output_dir keeps both; --overwrite_output_dir begins anew"
        raise Refusal(f"{output_dir} holds a run on other data: {path} has changed since", "--output_dir", fix)
    if complete:
        print(visible_lines(str(facts.get("table", ""))), "\n")
        note(f"already complete: {output_dir / 'README.md'}; --overwrite_output_dir begins anew")
    return complete


def _rows_a_step(flags: dict[str, Any], processes: int) -> int:
    rows = 1 if flags.get("tokens_per_batch") else flags["per_device_train_batch_size"]
    return rows * flags["gradient_accumulation_steps"] * processes


def _checkpoint(trainer: Trainer, allowed: Sequence[str]) -> Path | None:
    """The checkpoint to go on from: the one that is named, or the newest intact one; None to begin."""
    named = trainer.args.resume_from_checkpoint or "true"
    if named.lower() == "false":
        return None
    path = Path(named)
    if named.lower() != "true" and (damage := manifests.damage(path) or checkpoints.no_states(path)):
        fix = "name an intact checkpoint-N folder, or leave the flag out: the newest intact one is found"
        raise Refusal(f"{named} is not a whole checkpoint: {damage}", "--resume_from_checkpoint", fix)
    chosen = checkpoints.newest(Path(trainer.args.output_dir)) if named.lower() == "true" else path
    if chosen:
        checkpoints.check_belongs(chosen, trainer.fingerprint, allowed)
        note(f"resuming from {chosen}")
    return chosen


def _train(trainer: Trainer, tokens: Tokens, allowed: Sequence[str]) -> dict[str, float]:
    if trainer.args.save_strategy != "no" and trainer.is_world_process_zero():
        checkpoints.check_space(Path(trainer.args.output_dir), 2 * trainer.checkpoint_bytes)
    chosen = world.exchange(_checkpoint(trainer, allowed) if trainer.is_world_process_zero() else None)[0]
    result = trainer.train(resume_from_checkpoint=str(chosen) if chosen else None)
    metrics = dict(result.metrics)
    if hasattr(tokens.train, "__len__"):
        metrics["train_samples"] = len(tokens.train)
    trainer.save_model()
    trainer.save_state()
    return metrics


def _measure(trainer: Trainer, record: "report.Record", split: str, dataset: Any, prefix: str) -> None:
    """One pass over a split: its metrics under Hugging Face's names, its predictions written for every row."""
    output = trainer.predict(dataset, metric_key_prefix=prefix)
    metrics = {**output.metrics, f"{prefix}_samples": len(dataset)}
    if f"{prefix}_perplexity" in metrics and prefix == "eval":
        metrics["perplexity"] = metrics["eval_perplexity"]  # its name in Hugging Face's all_results.json
    record.add_scores(prefix, metrics)
    if output.predictions is not None:
        record.add_predictions(split, record.task.describe(split, output) if trainer.is_world_process_zero() else [])
