"""Packages and services that flags ask for are there, and take what they are told, before any data is read."""

import copy
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.integrations import integration_utils
from transformers.trainer_optimizer import is_optimizer_factory

from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import DISK, Refusal, Stop
from recipes.common.runtime.messages import did_you_mean, is_main_process, note, reason

ALIASES = {
    "tb": "tensorboard",
    "azureml": "azure_ml",
    "comet": "comet_ml",
    "weights_and_biases": "wandb",
}
PACKAGES = {"comet_ml": "comet-ml"}  # of the services; of the others by the same name
PACKAGES |= {
    name: name
    for name in ("mlflow", "dagshub", "tensorboard", "trackio", "wandb", "codecarbon", "clearml")
}
PACKAGES |= {name: name for name in ("dvclive", "swanlab")}
NO_LOGIN = {"offline", "disabled", "dryrun"}  # values of WANDB_MODE
WRONG = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, TypeError, ValueError)
WRONG += (NotImplementedError,)
STEPS = 10  # of a schedule that is tried
LOGIN = "hf auth login, or --hub_token TOKEN"
LIMITS = (
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "num_beams",
)  # of an answer
OTHERS = "leave the flag out, or choose another one"


class NotPushed(Stop):
    """The model is whole on this machine, and the Hub does not have it (exit code 74)."""

    exit_code = DISK


def check(arguments: Any, training_arguments: Any) -> None:
    """Refuses what could not be done once the model is trained: reports, optimizers and kernels without their package,
    settings that an optimizer or a schedule does not take, a Hub that lets nobody in."""
    _check_reports(training_arguments)
    if training_arguments.do_train:
        _check_optimizer(training_arguments)
        check_schedule(training_arguments)
    if getattr(training_arguments, "generation_config", None):
        generation_settings(training_arguments.generation_config)
    if training_arguments.use_liger_kernel:
        _check_liger()
    if training_arguments.push_to_hub and is_main_process():
        _check_hub(arguments, training_arguments)


def _check_reports(training_arguments: Any) -> None:
    known = integration_utils.INTEGRATION_TO_CALLBACK
    names = [ALIASES.get(name, name) for name in training_arguments.report_to]
    for name in names:
        if name not in known:
            fix = did_you_mean(name, known, f"one of none, all, {', '.join(known)}")
            raise Refusal(f"nothing is known that reports to {name!r}", "--report_to", fix)
        if (
            name in PACKAGES
            and name not in integration_utils.get_available_reporting_integrations()
        ):
            fix = f"pip install {PACKAGES[name]}, or --report_to none"
            raise Refusal(
                f"{PACKAGES[name]} is not installed, or too old", f"--report_to {name}", fix
            )
        with refused(f"--report_to {name}", "do as it says, or --report_to none", RuntimeError):
            known[name]()
    training_arguments.report_to = names
    if "wandb" in names:
        _check_wandb()


def _check_wandb() -> None:
    """wandb asks for its key when the training begins: where nobody can answer, that is too late."""
    import wandb

    silent = os.environ.get("WANDB_MODE", "online").lower() in NO_LOGIN
    if not silent and not wandb.api.api_key and not sys.stdin.isatty():
        fix = "wandb login; or WANDB_API_KEY=KEY, or WANDB_MODE=offline, before the command"
        raise Refusal("nobody is logged in to Weights & Biases", "--report_to wandb", fix)


def _check_optimizer(training_arguments: Any) -> None:
    """Builds the optimizer for a model of one weight, with --optim_args and without each of them."""
    name = training_arguments.optim.value
    given = [
        part.strip() for part in (training_arguments.optim_args or "").split(",") if part.strip()
    ]
    with refused("--optim", OTHERS):
        _optimizer(training_arguments, [])
    for part in given:
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise Refusal(f"{part!r} is no setting", "--optim_args", "write name=value,name=value")
    with refused("--optim_args", f"give what {name} takes, as name=value,name=value"):
        whole = _optimizer(training_arguments, given)
    for part in given if whole is not None else []:
        others = [other for other in given if other != part]
        if _changes_nothing(training_arguments, others, whole):
            what = f"{part} changes nothing: {name} has no such setting, or it is the default"
            fix = "leave it out; Adam's are --adam_beta1, --adam_beta2, --adam_epsilon"
            raise Refusal(what, "--optim_args", fix)


def _changes_nothing(training_arguments: Any, others: list[str], whole: dict[str, Any]) -> bool:
    """Whether the optimizer is the same with these settings alone, which it may not take without another."""
    try:
        return _optimizer(training_arguments, others) == whole
    except WRONG:
        return False


def _optimizer(training_arguments: Any, settings: list[str]) -> dict[str, Any] | None:
    """The settings of the optimizer, which is built with them; None where it needs the model itself."""
    arguments = copy.copy(training_arguments)
    arguments.optim_args = ",".join(settings)
    try:
        kind, options = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, None)
    except ValueError as error:
        if "pass a" in str(error) and "model" in str(
            error
        ):  # its package is there: that was asked first
            return None
        raise
    if is_optimizer_factory(kind):
        return options
    kind([torch.nn.Parameter(torch.zeros(2, 2))], **options)
    return options


def check_schedule(training_arguments: Any, warmup_steps: int = 2, steps: int = STEPS) -> None:
    """Takes some steps with the learning rate's schedule, which may not fit the steps of the training."""
    kind, settings = training_arguments.lr_scheduler_type, training_arguments.lr_scheduler_kwargs
    optimizer = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], lr=training_arguments.learning_rate
    )
    with refused("--lr_scheduler_kwargs", f"give what the schedule {kind.value} takes, as JSON"):
        schedule = transformers.get_scheduler(kind, optimizer, warmup_steps, steps, settings)
        by_metric = kind.value in ("reduce_lr_on_plateau", "greedy")
        for _ in range(STEPS):
            optimizer.step()
            schedule.step(*([1.0] if by_metric else []))


def _check_liger() -> None:
    from transformers.utils import is_liger_kernel_available

    if not is_liger_kernel_available():
        fix = "pip install liger-kernel, or leave it out: the recipes have a head of their own that saves as much"
        raise Refusal("liger-kernel is not installed", "--use_liger_kernel", fix)


def generation_settings(name: Any) -> transformers.GenerationConfig:
    """What --generation_config names: a file, the folder of one, or a checkpoint."""
    with refused(
        "--generation_config", "name a generation_config.json, or a folder that holds one"
    ):
        found = transformers.Seq2SeqTrainer.load_generation_config(str(name))
        for key in LIMITS:
            if not isinstance(getattr(found, key, None), (int, type(None))):
                raise TypeError(f"{key} is {getattr(found, key)!r}, which is no number")
    return found


@contextmanager
def refused(where: str, fix: str, *others: type[Exception]) -> Iterator[None]:
    """What a library does not take, as a refusal that names the flag."""
    try:
        yield
    except (*WRONG, *others) as error:
        if disk_error(error):
            raise
        raise Refusal(" ".join(str(error).split()) or type(error).__name__, where, fix) from None


def _check_hub(arguments: Any, training_arguments: Any) -> None:
    """Makes the repository now, as Trainer would after the data is read."""
    from huggingface_hub import create_repo, get_token

    training_arguments.hub_token = token = training_arguments.hub_token or arguments.token
    if not (token or get_token()):
        raise Refusal(
            "nobody is logged in to the Hub", "--push_to_hub", f"{LOGIN}; or leave it out"
        )
    name = training_arguments.hub_model_id or Path(training_arguments.output_dir).absolute().name
    with _hub(
        "the model could not be pushed",
        Refusal,
        "leave it out, and push the model when it is trained",
    ):
        made = create_repo(
            name, token=token, private=training_arguments.hub_private_repo, exist_ok=True
        )
        training_arguments.hub_model_id = made.repo_id


def push(trainer: Any) -> None:
    """Pushes the trained model; where that fails, it says how to do it later."""
    folder, name = trainer.args.output_dir, trainer.args.hub_model_id
    later = f'the model is whole; later: hf upload {name} {folder} . --exclude "checkpoint-*/*"'
    with _hub("the model was not pushed", NotPushed, later):
        trainer.push_to_hub()
        note(f"pushed to https://huggingface.co/{name}")


@contextmanager
def _hub(what: str, kind: type[Stop], fix: str) -> Iterator[None]:
    """What keeps the Hub's library from its work, as an error of this project with a way out."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise kind(f"{what}: {reason(error)}", "--hub_model_id", "name it ME/NAME") from None
    except (
        Exception
    ) as error:  # of the network, of the service, of the login: its libraries know many
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = f"{LOGIN}, with the right to write; or {fix}" if status in (401, 403) else fix
        why = reason(error) if status else f"the Hub does not answer: {reason(error)}"
        raise kind(f"{what}: {why}", "--push_to_hub", fix) from None
