"""Sets flags that the user leaves open, from the other flags and from the hardware.

Importing this module needs no torch. Looking at the hardware does.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from recipes.common.config.precedence import HEADLINE
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

if TYPE_CHECKING:
    from recipes.common.config.flags import Arguments
    from recipes.common.config.precedence import Values

ACTIONS = ("do_train", "do_eval", "do_predict")
WORKERS = 2
# Computed only where --metric_name names them: the score of one class, or a mean over the classes.
ON_REQUEST = ("f1", "precision", "recall")
LOWER_IS_BETTER = {"mse", "mae", "cross_entropy", "perplexity", "ter"}
# Names of other metrics for which lower is better end so, as in scikit-learn.
ENDS_OF_LOWER = ("loss", "error", "distance")


def actions(values: "Values") -> None:
    """Decides what a run does if no action is given: it trains and evaluates.

    It also predicts if there is a test set.
    """
    given = [name for name in ACTIONS if name in values]
    if not _any_of(values, *ACTIONS):
        values.setdefault("do_train", True)
        values.setdefault("do_eval", True)
        has_test = _any_of(values, "test_file", *values.data_sets)
        values.setdefault("do_predict", has_test)
    if not _any_of(values, *ACTIONS):
        where = ", ".join(f"--{name}" for name in given)
        raise Refusal("there is nothing to do", where, "leave one of them out")
    if not values.get("do_train"):
        # Otherwise Trainer turns on --do_eval, with validation data that a lower layer names.
        values |= {"eval_strategy": "no", "load_best_model_at_end": False}


def metric_name(arguments: "Arguments", best: str | None) -> None:
    """Sets --metric_name to the metric of --metric_for_best_model, if that is one of ON_REQUEST.

    Otherwise nothing would compute it. A --metric_name that is given stays as it is.
    """
    name = (best or "").removeprefix("eval_")
    if name in ON_REQUEST and hasattr(arguments, "metric_name"):
        arguments.metric_name = arguments.metric_name or name


def hardware(values: dict[str, Any]) -> None:
    """Chooses CPU or GPU, the loader's processes and bf16 from what this machine has."""
    _choose_device(values)
    _choose_workers(values)
    _choose_precision(values)


def _choose_device(values: dict[str, Any]) -> None:
    import torch

    if torch.accelerator.is_available() and not values.get("use_cpu"):
        _refuse_more_than(torch.accelerator.device_count())
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it had to find out
    # Without it two torchrun processes on CPU train two models that are not synchronised.
    values["use_cpu"] = True


def _refuse_more_than(gpus: int) -> None:
    """Refuses more of torchrun's processes than GPUs.

    With other launchers each process may see only its own GPU.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if by_torchrun and 0 < gpus <= int(os.environ.get("LOCAL_RANK", "0")):
        what = f"more processes than GPUs: this machine has {gpus}"
        fix = f"start one per GPU: --num_processes {gpus} per machine"
        raise Refusal(what, "--num_processes", fix)


def _choose_workers(values: dict[str, Any]) -> None:
    """Lets processes of the loader make batches while a GPU computes."""
    # On other systems the model would be sent to the processes. A stream's order depends on how
    # many there are.
    if sys.platform == "linux" and not values.get("use_cpu") and not values.get("streaming"):
        values.setdefault("dataloader_num_workers", WORKERS)
    if values.get("streaming") and values.get("dataloader_num_workers", 0) > 1:
        # The Hub's library gives each of several processes a share, and only one share is read.
        note("a stream is read by one process of the loader: --dataloader_num_workers 1")
        values["dataloader_num_workers"] = 1


def _choose_precision(values: dict[str, Any]) -> None:
    multiplies = has_bf16(bool(values.get("use_cpu")))
    if "bf16" not in values and "fp16" not in values:
        values["bf16"] = multiplies
    if values.get("bf16") and not multiplies:
        note("this hardware has no instructions for bf16: --bf16 false is many times as fast")
    if values.get("fp16") and values.get("use_cpu"):
        fix = "leave it out: bf16 is chosen where it helps"
        raise Refusal("fp16 needs a GPU, and there is none", "--fp16", fix)


def has_bf16(use_cpu: bool) -> bool:
    """Whether the hardware multiplies in bf16.

    A CPU that cannot do so takes 7 to 100 times as long with bf16 as with fp32.
    """
    import torch

    if use_cpu:
        return upstream.cpu_multiplies_bf16()
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def strategies(values: dict[str, Any]) -> None:
    """Sets what a run logs and pushes, when it evaluates and saves, and which model is the best."""
    values.setdefault("logging_nan_inf_filter", False)  # losses that are not finite are shown
    values.setdefault("disable_tqdm", False)
    # Less padding. Packed blocks have one length anyway.
    values.setdefault("train_sampling_strategy", "group_by_length")
    values.setdefault("predict_with_generate", True)  # where the task writes texts
    _set_pushing(values)
    if values.pop("enable_jit_checkpoint", False):
        note("--enable_jit_checkpoint is ignored: a run saves anyway when it is stopped")
    _set_early_stopping(values)
    _set_best_model(values)


def _set_pushing(values: dict[str, Any]) -> None:
    """Lets a run push its model once.

    At every save Trainer would also upload its arguments: a pickle that holds the token. And the
    folder would change during the upload.
    """
    if not values.get("push_to_hub"):
        return
    if values.setdefault("hub_strategy", "end") != "end":
        what = "a model is pushed once, when its run is complete"
        raise Refusal(what, "--hub_strategy", "leave it out, or say end")


def _set_early_stopping(values: dict[str, Any]) -> None:
    if not values.get("early_stopping_patience"):
        return
    if values.setdefault("eval_strategy", "epoch") == "no":
        what = "without evaluations nothing can stop early"
        fix = "--eval_strategy epoch, or leave out --early_stopping_patience"
        raise Refusal(what, "--early_stopping_patience", fix)
    values.setdefault("save_strategy", values["eval_strategy"])
    values.setdefault("load_best_model_at_end", True)


def _set_best_model(values: dict[str, Any]) -> None:
    if _any_of(values, "metric_name", "load_best_model_at_end", "early_stopping_patience"):
        metric = "loss"
        if values["predict_with_generate"] and not values.get("prediction_loss_only"):
            metric = HEADLINE
        values.setdefault("metric_for_best_model", values.get("metric_name", metric))
    if lower_is_better(values.get("metric_for_best_model", "")):
        values.setdefault("greater_is_better", False)


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is the better one, by its name.

    Your own metric counts so if its name ends as scikit-learn's do: hamming_loss, max_error.
    """
    name = metric.removeprefix("eval_")
    return name in LOWER_IS_BETTER or name.endswith(ENDS_OF_LOWER)


def _any_of(values: dict[str, Any], *names: str) -> bool:
    return any(map(values.get, names))
