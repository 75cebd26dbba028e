"""A run from its first line to its last: start() before anything is loaded, run() to train, evaluate and report."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import EarlyStoppingCallback, set_seed

from recipes.common.checkpoints import retention
from recipes.common.config import defaults, engines, flags, parsing, services
from recipes.common.config.precedence import HEADLINE
from recipes.common.data.splits import Splits
from recipes.common.metrics.classification import also_compute
from recipes.common.model import weights
from recipes.common.report import folder_claims, run_record
from recipes.common.report.run_identity import Run
from recipes.common.report.run_report import Record
from recipes.common.report.task_report import Task
from recipes.common.runtime import joining, malloc, processes, signals
from recipes.common.runtime.errors import COMPLETE, Refusal, TrainingFailed
from recipes.common.runtime.messages import is_main_process, note
from recipes.common.runtime.process_state import command_line, kept
from recipes.common.tokens.encoding import Tokens
from recipes.common.train.trainer import Trainer

Main = Callable[[list[str] | None], dict[str, float]]
FEW = 8  # rows whose evaluation tells which metrics there are


class Complete(SystemExit):
    """Ends a run of which nothing is left to do, with the metrics that it had."""

    def __init__(self, output_dir: Path):
        super().__init__(COMPLETE)
        self.metrics = run_record.scores(output_dir)


def recipe(main: Main) -> Main:
    """A recipe's `main`, which returns the metrics of a run that is complete already, too, and leaves the process as it
    found it: a notebook, Gradio or Ray goes on."""

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
    """The run's arguments, in `arguments.run` the run as it was asked for, and its output folder locked: complete runs
    end here, folders that hold another one are refused."""
    arguments, training_arguments = parsing.parse(arguments_class, recipe, argv)
    also_compute(arguments, training_arguments.metric_for_best_model)
    _quiet(training_arguments)
    signals.listen()
    engines.check(arguments, training_arguments)
    services.check(arguments, training_arguments)
    joining.join(training_arguments, arguments.num_processes)
    set_seed(training_arguments.seed)
    if training_arguments.device.type == "cpu":
        malloc.keep()
    if getattr(arguments, "prepare_only", False):  # no run begins: nothing is claimed
        return arguments, training_arguments
    command = ["python", os.path.relpath(recipe), *(sys.argv[1:] if argv is None else argv)]
    arguments.run = Run(
        flags.to_dict(arguments, training_arguments, recipe), shlex.join(command), Path(recipe)
    )
    complete = is_main_process() and folder_claims.claim(
        arguments.run, training_arguments, arguments
    )
    if processes.exchange(complete)[0]:
        raise Complete(arguments.run.output_dir)
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
    training_arguments.do_predict &= (
        splits.test is not None
    )  # the process that has read the data may have found none
    _refuse_random(trainer, arguments)
    record = Record(trainer, arguments, splits, tokens, task)
    _judge_by(task, trainer, tokens.validation)
    record.print_summary()
    processes.check_equal(trainer.model)
    if arguments.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(arguments.early_stopping_patience))
    chosen = None
    if training_arguments.do_train:
        trainer.fingerprint = record.fingerprint(arguments.run)
        chosen, trainer.changed = processes.exchange(folder_claims.checkpoint(trainer, arguments))[
            0
        ]
        _check_steps(trainer, chosen)
    if trainer.is_world_process_zero():
        run_record.begin(arguments.run, arguments.overwrite_output_dir)
    if training_arguments.do_train:
        record.add_scores("train", _train(trainer, tokens, chosen))
    if training_arguments.do_eval:
        _measure(trainer, record, "validation", tokens.validation, "eval")
    if training_arguments.do_predict:
        _measure(trainer, record, "test", tokens.test, "predict")
    # By every process: a model that is shared out (ZeRO-3, FSDP2) writes texts only together.
    examples = (
        task.examples(record.predictions, record.predicted_split) if record.predicted_split else ""
    )
    if trainer.is_world_process_zero():
        record.finish(examples)
    if training_arguments.push_to_hub:
        services.push(trainer)
    processes.leave()
    signals.leave()
    return record.scores


def _refuse_random(trainer: Trainer, arguments: Any) -> None:
    """Where nothing is trained, every part of the model must have come with the checkpoint."""
    if not trainer.args.do_train:
        new = getattr(trainer.model, "new_parts", ())
        weights.refuse_new(new, arguments.model_name_or_path, "--model_name_or_path")


def _judge_by(task: Task, trainer: Trainer, validation: Any) -> None:
    """The best model is the one of the best headline metric; by Trainer's choice, the loss, an early epoch wins whose
    accuracy is a point or two lower: the loss rises as soon as the model grows sure of its errors.

    A metric that was named and that no evaluation gives is refused: a few rows tell.
    """
    name = trainer.args.metric_for_best_model
    if name == HEADLINE:
        trainer.args.metric_for_best_model = task.headline
        trainer.args.greater_is_better = task.headline not in defaults.LOWER_IS_BETTER
    elif (
        name
        and name.removeprefix("eval_") not in ("loss", task.headline)
        and hasattr(validation, "select")
    ):
        few = validation.select(range(min(FEW, len(validation))))
        found = trainer.predict(few, metric_key_prefix="eval").metrics
        trainer.check_metric(name, [*found, *(f"eval_{shown}" for shown in task.shown)])


def _quiet(training_arguments: Any) -> None:
    """Libraries speak up from warnings on; bars and the report are this project's own."""
    level = (
        training_arguments.get_process_log_level()
        if training_arguments.log_level != "passive"
        else logging.ERROR
    )
    transformers.utils.logging.set_verbosity(level)
    datasets.utils.logging.set_verbosity(level)
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="torch.distributed"
    )  # DeepSpeed's use of it
    transformers.utils.logging.disable_progress_bar()  # of loading and saving; training has its own bar


def _check_steps(trainer: Trainer, checkpoint: Path | None) -> None:
    """Refuses a training that would take no step; says so where there is nothing left to do."""
    if trainer.plan.batches == 0:
        rows = f"{len(trainer.train_dataset):,} rows are less than one batch of all processes"
        fix = "leave it out, or lower --per_device_train_batch_size"
        raise Refusal(
            f"{rows}, and --dataloader_drop_last drops them", "--dataloader_drop_last", fix
        )
    done = retention.step(checkpoint) if checkpoint else 0
    if done > trainer.plan.steps:
        fix = f"train longer, or begin anew with another --output_dir; the model in {checkpoint} can be used as it is"
        raise Refusal(
            f"the training ends after step {trainer.plan.steps:,}, before {checkpoint}",
            "--max_steps",
            fix,
        )
    if done == trainer.plan.steps:
        note(f"nothing is left to train: {checkpoint} is of the last step")


def _train(trainer: Trainer, tokens: Tokens, checkpoint: Path | None) -> dict[str, float]:
    if trainer.args.save_strategy != "no" and trainer.is_world_process_zero():
        retention.check_space(Path(trainer.args.output_dir), 2 * trainer.checkpoints.bytes_needed)
    if trainer.args.save_only_model:
        note(
            "--save_only_model: a run that is killed starts over; one that is stopped by Ctrl-C or SIGTERM goes on"
        )
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.state.global_step:
        raise TrainingFailed(
            "no step was taken: the training data gave no batch", "--train_file", "give more rows"
        )
    metrics = dict(result.metrics)
    if hasattr(tokens.train, "__len__"):
        metrics["train_samples"] = len(tokens.train)
    trainer.save_model(_internal_call=True)  # or Trainer pushes it, before it is evaluated
    trainer.save_state()
    return metrics


def _measure(trainer: Trainer, record: Record, split: str, dataset: Any, prefix: str) -> None:
    """One pass over a split: its metrics under Hugging Face's names, its predictions written for every row."""
    output = trainer.predict(dataset, metric_key_prefix=prefix)
    metrics = {**output.metrics, f"{prefix}_samples": len(dataset)}
    if f"{prefix}_perplexity" in metrics and prefix == "eval":
        metrics["perplexity"] = metrics[
            "eval_perplexity"
        ]  # its name in Hugging Face's all_results.json
    record.add_scores(prefix, metrics)
    if output.predictions is not None:
        record.add_predictions(
            split, record.task.describe(split, output) if trainer.is_world_process_zero() else []
        )
