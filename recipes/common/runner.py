"""A run from its first line to its last.

`start` is called before anything is loaded; `run` trains, evaluates and reports.
"""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import transformers
from transformers import EarlyStoppingCallback, set_seed

from recipes.common.checkpoints import retention
from recipes.common.config import (
    defaults,
    engines,
    facts,
    flags,
    parsing,
    services,
    training_settings,
)
from recipes.common.config.precedence import HEADLINE
from recipes.common.data.splits import Splits
from recipes.common.model import weights
from recipes.common.report import folder_claims, run_record
from recipes.common.report.run_identity import Run
from recipes.common.report.run_report import RunReport
from recipes.common.report.task import Task
from recipes.common.runtime import joining, malloc, processes, signals, upstream
from recipes.common.runtime.errors import COMPLETE, Refusal, TrainingFailed
from recipes.common.runtime.messages import is_main_process, note
from recipes.common.runtime.process_state import command_line, kept
from recipes.common.train.trainer import Trainer

Main = Callable[[list[str] | None], dict[str, float]]
FEW = 8  # rows whose evaluation tells which metrics there are


class Beginning(NamedTuple):
    """Says where a training begins."""

    checkpoint: Path | None  # to continue from
    fingerprint: dict[str, Any]  # of the run: flags, data, tokenizer, model, versions
    changed: dict[str, Any]  # flags that differ from those of the checkpoint, with their old values


class Complete(SystemExit):
    """Ends a run that is complete already, with its metrics."""

    def __init__(self, output_dir: Path):
        super().__init__(COMPLETE)
        self.metrics = run_record.scores(output_dir)


def recipe(main: Main) -> Main:
    """Decorates a recipe's `main`.

    It returns the metrics also where the run is complete already, and leaves the process as it
    found it: a notebook, Gradio or Ray continues after a run.
    """

    @wraps(main)
    def whole(argv: list[str] | None = None) -> dict[str, float]:
        with kept():
            try:
                return main(command_line() if argv is None else argv)
            except SystemExit as ended:  # also where --help or --prepare_only was all
                if ended.code:
                    raise
                return getattr(ended, "metrics", {})
            finally:
                run_record.unlock()

    return whole


def start(arguments_class: type, recipe: str, argv: list[str] | None = None) -> tuple[Any, Any]:
    """Returns the recipe's arguments and TrainingArguments, and locks the output folder.

    `arguments.run` is the requested run. A complete run ends here. A folder that holds another run
    is refused.
    """
    arguments, training_arguments = parsing.parse(arguments_class, recipe, argv)
    defaults.metric_name(arguments, training_arguments.metric_for_best_model)
    _quiet(training_arguments)
    signals.listen()
    engines.check(arguments, training_arguments)
    services.check(arguments, training_arguments)
    joining.join(training_arguments, arguments.num_processes)
    set_seed(training_arguments.seed)
    if training_arguments.device.type == "cpu":
        malloc.keep()
    if getattr(arguments, "prepare_only", False):  # no run begins: the folder is not claimed
        return arguments, training_arguments
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", os.path.relpath(recipe), *words])
    resolved = flags.to_dict(arguments, training_arguments, recipe)
    known = facts.of(arguments_class, type(training_arguments))
    free = frozenset(name for name, of_flag in known.items() if of_flag.is_free)
    arguments.run = Run(resolved, command, Path(recipe), free)
    is_complete = False
    if is_main_process():
        is_complete = folder_claims.claim(arguments.run, training_arguments, arguments)
    if processes.exchange(is_complete)[0]:
        raise Complete(arguments.run.output_dir)
    return arguments, training_arguments


def run(trainer: Trainer, arguments: Any, splits: Splits) -> dict[str, float]:
    """Trains, evaluates and predicts as the flags say, writes the output folder, and returns the
    metrics."""
    training_arguments, tokens = trainer.args, trainer.tokens
    if splits.test is None:  # the process that has read the data may have found none
        training_settings.predict_nothing(training_arguments)
    _refuse_new_parts(trainer, arguments)
    report = RunReport(trainer, arguments, splits)
    _judge_by(trainer.task, trainer, tokens.validation)
    report.print_summary()
    processes.check_equal(trainer.model)
    if arguments.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(arguments.early_stopping_patience))
    beginning = None
    if training_arguments.do_train:
        beginning = _choose_beginning(trainer, report, arguments)
    if trainer.is_world_process_zero():
        run_record.begin(arguments.run, arguments.overwrite_output_dir)
    if beginning:
        report.add_scores("train", _train(trainer, beginning))
    if training_arguments.do_eval:
        _measure(trainer, report, "validation", tokens.validation, "eval")
    if training_arguments.do_predict:
        _measure(trainer, report, "test", tokens.test, "predict")
    examples = report.examples()
    if trainer.is_world_process_zero():
        report.finish(examples)
    if training_arguments.push_to_hub:
        services.push(trainer)
    processes.leave()
    signals.leave()
    return report.scores


def _choose_beginning(trainer: Trainer, report: RunReport, arguments: Any) -> Beginning:
    """Returns where the training begins; all processes get what the first one has found."""
    fingerprint = report.fingerprint(arguments.run)
    chosen = processes.exchange(folder_claims.checkpoint(trainer, arguments, fingerprint))
    checkpoint, changed = chosen[0]
    _check_steps(trainer, checkpoint)
    return Beginning(checkpoint, fingerprint, changed)


def _refuse_new_parts(trainer: Trainer, arguments: Any) -> None:
    """Refuses a model of which a part is new, where nothing is trained."""
    if not trainer.args.do_train:
        new = getattr(trainer.model, "new_parts", ())
        weights.refuse_new(new, arguments.model_name_or_path, "--model_name_or_path")


def _judge_by(task: Task, trainer: Trainer, validation: Any) -> None:
    """Chooses the metric that decides which model is the best one.

    It is the task's headline metric, unless one is named. Trainer would choose by loss, which rises
    as soon as the model grows sure of its errors: an early epoch would win, whose accuracy is a
    point or two lower. An evaluation of a few rows shows which metrics exist, and refuses others.
    """
    name = trainer.args.metric_for_best_model
    if name == HEADLINE:
        training_settings.judge_by(trainer.args, task.headline)
        return
    is_known = not name or name.removeprefix("eval_") in ("loss", task.headline)
    if not is_known and hasattr(validation, "select"):
        few = validation.select(range(min(FEW, len(validation))))
        found = trainer.predict(few, metric_key_prefix="eval").metrics
        shown = [f"eval_{shown}" for shown in task.shown]
        trainer.check_metric(name, [*found, *shown])


def _quiet(training_arguments: Any) -> None:
    """Lets libraries speak from errors on; bars and the report are this project's own."""
    level = logging.ERROR
    if training_arguments.log_level != "passive":
        level = training_arguments.get_process_log_level()
    transformers.utils.logging.set_verbosity(level)
    datasets.utils.logging.set_verbosity(level)
    # DeepSpeed uses what torch.distributed has deprecated.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    transformers.utils.logging.disable_progress_bar()  # of loading and saving


def _check_steps(trainer: Trainer, checkpoint: Path | None) -> None:
    """Refuses a training that would take no step; says so where nothing is left to train."""
    plan = trainer.plan
    if plan.batches == 0:
        rows = f"{len(trainer.train_dataset):,} rows are less than one batch of all processes"
        fix = "leave it out, or lower --per_device_train_batch_size"
        what = f"{rows}, and --dataloader_drop_last drops them"
        raise Refusal(what, "--dataloader_drop_last", fix)
    done = retention.step(checkpoint) if checkpoint else 0
    if done > plan.steps:
        what = f"the training ends after step {plan.steps:,}, before {checkpoint}"
        start_over = "or start over with another --output_dir"
        fix = f"train longer, {start_over}; the model in {checkpoint} can be used as it is"
        raise Refusal(what, "--max_steps", fix)
    if done == plan.steps:
        note(f"nothing is left to train: {checkpoint} is of the last step")


def _train(trainer: Trainer, beginning: Beginning) -> dict[str, float]:
    """Trains, saves the model, and returns the metrics of the training."""
    arguments = trainer.args
    if arguments.save_strategy != "no" and trainer.is_world_process_zero():
        needed = 2 * trainer.checkpoints.bytes_needed
        retention.check_space(Path(arguments.output_dir), needed)
    if arguments.save_only_model:
        killed = "--save_only_model: a run that is killed starts over"
        note(f"{killed}; one that is stopped by Ctrl-C or SIGTERM continues")
    resumed = str(beginning.checkpoint) if beginning.checkpoint else None
    result = trainer.train(resumed, fingerprint=beginning.fingerprint, changed=beginning.changed)
    if not trainer.state.global_step:
        what = "no step was taken: the training data gave no batch"
        raise TrainingFailed(what, "--train_file", "give more rows")
    metrics = dict(result.metrics)
    if hasattr(trainer.tokens.train, "__len__"):
        metrics["train_samples"] = len(trainer.tokens.train)
    upstream.save_model(trainer)  # it is pushed later, when it is evaluated
    trainer.save_state()
    return metrics


def _measure(trainer: Trainer, report: RunReport, split: str, dataset: Any, prefix: str) -> None:
    """Evaluates a split: its metrics under Hugging Face's names, its predictions for every row."""
    output = trainer.predict(dataset, metric_key_prefix=prefix)
    metrics = {**output.metrics, f"{prefix}_samples": len(dataset)}
    if f"{prefix}_perplexity" in metrics and prefix == "eval":
        # Its name in Hugging Face's all_results.json.
        metrics["perplexity"] = metrics["eval_perplexity"]
    report.add_scores(prefix, metrics)
    if output.predictions is not None:
        report.add_predictions(split, output)
