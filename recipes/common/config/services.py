"""Checks the packages and services that flags name, before any data is read.

They must be installed and accept their settings.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import TrainingArguments
from transformers.integrations import integration_utils
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.training_args import OptimizerNames

from recipes.common.config import training_settings
from recipes.common.config.flags import Arguments, comma_separated
from recipes.common.config.precedence import BY_EVALUATION
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import DISK, Refusal, Stop
from recipes.common.runtime.messages import did_you_mean, is_main_process, note, reason

ALIASES = {
    "tb": "tensorboard",
    "azureml": "azure_ml",
    "comet": "comet_ml",
    "weights_and_biases": "wandb",
}
# Services -> the packages that they need.
PACKAGES = {
    "comet_ml": "comet-ml",
    "mlflow": "mlflow",
    "dagshub": "dagshub",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
    "codecarbon": "codecarbon",
    "clearml": "clearml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
}
NO_LOGIN = {"offline", "disabled", "dryrun"}  # values of WANDB_MODE
# What libraries raise if they do not take a setting.
WRONG = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)
STEPS = 10  # for which a schedule is tried
LOGIN = "hf auth login, or --hub_token TOKEN"
# Settings of generated texts that are whole numbers.
LIMITS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams")
OTHERS = "leave the flag out, or choose another one"


class NotPushed(Stop):
    """Ends a run whose model is complete on this machine but not on the Hub (exit code 74)."""

    exit_code = DISK


def check(arguments: Arguments, training_arguments: TrainingArguments) -> None:
    """Refuses what would fail after the data is read, or after the training.

    These are services, optimizers and kernels without their package, settings that an optimizer or
    a schedule does not take, and a Hub that does not let this user in.
    """
    _check_reports(training_arguments)
    if training_arguments.do_train:
        _check_optimizer(training_arguments)
        check_schedule(training_arguments)
    if settings := getattr(training_arguments, "generation_config", None):
        generation_settings(settings)
    if training_arguments.use_liger_kernel:
        _check_liger()
    if training_arguments.push_to_hub and is_main_process():
        _check_hub(arguments, training_arguments)


def _check_reports(training_arguments: TrainingArguments) -> None:
    known = integration_utils.INTEGRATION_TO_CALLBACK
    names = [ALIASES.get(name, name) for name in training_arguments.report_to or ()]
    for name in names:
        if name not in known:
            fix = did_you_mean(name, known, f"one of none, all, {', '.join(known)}")
            raise Refusal(f"unknown service {name!r}", "--report_to", fix)
        if _is_missing(name):
            package = PACKAGES[name]
            fix = f"pip install {package}, or --report_to none"
            raise Refusal(f"{package} is not installed, or too old", f"--report_to {name}", fix)
        fix = "do what the message says, or --report_to none"
        with refused(f"--report_to {name}", fix, RuntimeError):
            known[name]()
    training_settings.report_to(training_arguments, names)
    if "wandb" in names:
        _check_wandb()


def _is_missing(name: str) -> bool:
    if name not in PACKAGES:
        return False
    return name not in integration_utils.get_available_reporting_integrations()


def _check_wandb() -> None:
    """Refuses wandb without a login.

    It asks for its key when the training begins. That is too late where nobody can answer.
    """
    import wandb

    needs_login = os.environ.get("WANDB_MODE", "online").lower() not in NO_LOGIN
    if needs_login and not wandb.api.api_key and not sys.stdin.isatty():
        fix = "wandb login; or WANDB_API_KEY=KEY, or WANDB_MODE=offline, before the command"
        raise Refusal("nobody is logged in to Weights & Biases", "--report_to wandb", fix)


def _check_optimizer(training_arguments: TrainingArguments) -> None:
    """Builds the optimizer for one weight, with all of --optim_args and without each of them.

    Refuses a package that is missing, and settings that the optimizer does not take or ignores.
    """
    name = OptimizerNames(training_arguments.optim).value
    settings = comma_separated(training_arguments.optim_args)
    with refused("--optim", OTHERS):
        _optimizer(training_arguments, [])
    for setting in settings:
        key, _, value = setting.partition("=")
        if not key or not value:
            fix = "write name=value,name=value"
            raise Refusal(f"there is no setting {setting!r}", "--optim_args", fix)
    with refused("--optim_args", f"give what {name} takes, as name=value,name=value"):
        whole = _optimizer(training_arguments, settings)
    if whole is None:
        return
    for setting in settings:
        others = [other for other in settings if other != setting]
        if _changes_nothing(training_arguments, others, whole):
            what = f"{setting} changes nothing: {name} has no such setting, or it is the default"
            fix = "leave it out; Adam's are --adam_beta1, --adam_beta2, --adam_epsilon"
            raise Refusal(what, "--optim_args", fix)


def _changes_nothing(
    training_arguments: TrainingArguments, others: list[str], whole: dict[str, object]
) -> bool:
    """Whether the optimizer is the same without one setting.

    False if the others need it.
    """
    try:
        return _optimizer(training_arguments, others) == whole
    except WRONG:
        return False


def _optimizer(
    training_arguments: TrainingArguments, settings: list[str]
) -> dict[str, object] | None:
    """Builds the optimizer with these settings and returns all its options.

    Returns None if it needs the model itself.
    """
    arguments = training_settings.with_optimizer_settings(training_arguments, settings)
    try:
        kind, options = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, None)
    except ValueError as error:
        text = str(error)
        if "pass a" in text and "model" in text:  # raised only after the package was found
            return None
        raise
    if is_optimizer_factory(kind):
        return options
    kind([torch.nn.Parameter(torch.zeros(2, 2))], **options)
    return options


def check_schedule(
    training_arguments: TrainingArguments, warmup_steps: int = 2, steps: int = STEPS
) -> None:
    """Takes some steps with the schedule of the learning rate.

    Refuses settings that the schedule does not take, or that do not fit the steps of the training.
    """
    kind = transformers.SchedulerType(training_arguments.lr_scheduler_type)
    # get_scheduler refuses settings that are a text: they are no JSON.
    settings = cast("dict[str, Any] | None", training_arguments.lr_scheduler_kwargs)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=training_arguments.learning_rate)
    with refused("--lr_scheduler_kwargs", f"give what the schedule {kind.value} takes, as JSON"):
        schedule = transformers.get_scheduler(kind, optimizer, warmup_steps, steps, settings)
        for _ in range(STEPS):
            optimizer.step()
            if kind.value in BY_EVALUATION:
                schedule.step(1.0)
            else:
                schedule.step()


def _check_liger() -> None:
    from transformers.utils import is_liger_kernel_available

    if not is_liger_kernel_available():
        fix = (
            "pip install liger-kernel, or leave it out: "
            "the recipes have a head of their own that saves as much"
        )
        raise Refusal("liger-kernel is not installed", "--use_liger_kernel", fix)


def generation_settings(name: str | Path) -> transformers.GenerationConfig:
    """Returns the settings that --generation_config names: a file, its folder, or a checkpoint."""
    fix = "name a generation_config.json, or a folder that holds one"
    with refused("--generation_config", fix):
        found = transformers.Seq2SeqTrainer.load_generation_config(str(name))
        for key in LIMITS:
            limit = getattr(found, key, None)
            if limit is not None and not isinstance(limit, int):
                raise TypeError(f"{key} is {limit!r}, which is not a number")
    return found


@contextmanager
def refused(where: str, fix: str, *others: type[Exception]) -> Iterator[None]:
    """Turns a library's error about a setting into a refusal that names the flag."""
    caught: tuple[type[Exception], ...] = (*WRONG, *others)
    try:
        yield
    except caught as error:
        if disk_error(error):
            raise
        what = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(what, where, fix) from None


def _check_hub(arguments: Arguments, training_arguments: TrainingArguments) -> None:
    """Makes the repository now. Trainer would do it after the data is read."""
    from huggingface_hub import create_repo, get_token

    token = training_arguments.hub_token or arguments.token
    if not token and not get_token():
        what = "nobody is logged in to the Hub"
        raise Refusal(what, "--push_to_hub", f"{LOGIN}; or leave it out")
    folder = Path(training_arguments.output_dir or "").absolute()
    name = training_arguments.hub_model_id or folder.name
    fix = "leave it out, and push the model when it is trained"
    with _hub("the model could not be pushed", Refusal, fix):
        made = create_repo(
            name, token=token, private=training_arguments.hub_private_repo, exist_ok=True
        )
        training_settings.push_to(training_arguments, made.repo_id, token)


def push(trainer: transformers.Trainer) -> None:
    """Pushes the trained model. If that fails, the error says how to do it later."""
    folder = trainer.args.output_dir
    name = trainer.args.hub_model_id
    command = f'hf upload {name} {folder} . --exclude "checkpoint-*/*"'
    later = f"the model is complete here; upload it later: {command}"
    with _hub("the model was not pushed", NotPushed, later):
        trainer.push_to_hub()
        note(f"pushed to https://huggingface.co/{name}")


@contextmanager
def _hub(what: str, kind: type[Stop], fix: str) -> Iterator[None]:
    """Turns an error of the Hub's library into an error of this project that shows a way out."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise kind(f"{what}: {reason(error)}", "--hub_model_id", "name it ME/NAME") from None
    # The network, the service and the login have errors of many libraries.
    except Exception as error:
        why = reason(error)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if not status:
            why = f"the Hub does not answer: {why}"
        if status in (401, 403):
            fix = f"{LOGIN}, with the right to write; or {fix}"
        raise kind(f"{what}: {why}", "--push_to_hub", fix) from None
