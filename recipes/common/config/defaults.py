"""What follows from the flags, and from the hardware, where nobody has said otherwise.

Reading this module needs no torch; asking for the hardware does.
"""

import os
import sys
from typing import Any

from recipes.common.config.precedence import HEADLINE
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

ACTIONS = ("do_train", "do_eval", "do_predict")
WORKERS = 2
LOWER_IS_BETTER = {"mse", "mae", "cross_entropy", "loss", "perplexity", "ter"}


def actions(values: dict[str, Any]) -> None:
    """Neither --do_train, --do_eval nor --do_predict: train and evaluate, and predict if there is a test set."""
    given = {name: values[name] for name in ACTIONS if name in values}
    if not any(given.values()):
        has_test = any(values.get(name) for name in ("test_file", "dataset_name", "task_name"))
        values |= {"do_train": True, "do_eval": True, "do_predict": has_test} | given
    if not any(values.get(name) for name in ACTIONS):
        raise Refusal(
            "there is nothing to do",
            ", ".join(f"--{name}" for name in given),
            "leave one of them out",
        )
    if not values.get(
        "do_train"
    ):  # or Trainer makes --do_eval of it, on whatever validation data a layer below names
        values |= {"eval_strategy": "no", "load_best_model_at_end": False}


def hardware(values: dict[str, Any]) -> None:
    """CPU where there is nothing else; beside a GPU, processes that make its batches meanwhile; bf16 where the hardware
    multiplies in it and nobody chose otherwise."""
    import torch

    if not torch.accelerator.is_available() or values.get("use_cpu"):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it had to find out
        values["use_cpu"] = (
            True  # without it two torchrun processes on CPU train two unsynchronised models
        )
    else:
        _refuse_more_than(torch.accelerator.device_count())
        if sys.platform == "linux" and not values.get("streaming"):
            # Elsewhere the model would be sent to them; a stream's order follows from their number.
            values.setdefault("dataloader_num_workers", WORKERS)
    if values.get("streaming") and values.get("dataloader_num_workers", 0) > 1:
        # The Hub's library would give each of several its share, of which one alone is read.
        note("a stream is read by one process of the loader: --dataloader_num_workers 1")
        values["dataloader_num_workers"] = 1
    multiplies = has_bf16(bool(values.get("use_cpu")))
    if not {"bf16", "fp16"} & values.keys():
        values["bf16"] = multiplies
    if values.get("bf16") and not multiplies:
        note("this hardware has no instructions for bf16: --bf16 false is many times as fast")
    if values.get("fp16") and values.get("use_cpu"):
        raise Refusal(
            "fp16 needs a GPU, and there is none",
            "--fp16",
            "leave it out: bf16 is chosen where it helps",
        )


def _refuse_more_than(gpus: int) -> None:
    started_by_torchrun = (
        "TORCHELASTIC_RUN_ID" in os.environ
    )  # others may show each process a GPU of its own
    if started_by_torchrun and 0 < gpus <= int(os.environ.get("LOCAL_RANK", "0")):
        fix = f"--num_processes {gpus} a machine: one a GPU"
        raise Refusal(
            f"more processes than GPUs, of which this machine has {gpus}", "--num_processes", fix
        )


def has_bf16(use_cpu: bool) -> bool:
    """Whether the hardware multiplies in bf16; a CPU that does not takes 7 to 100 times as long as in fp32."""
    import torch

    if use_cpu:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def strategies(values: dict[str, Any]) -> None:
    """Losses that are not finite are shown; the best model is judged by --metric_name, early stopping evaluates."""
    values.setdefault("logging_nan_inf_filter", False)
    values.setdefault("disable_tqdm", False)
    values.setdefault(
        "train_sampling_strategy", "group_by_length"
    )  # less padding; blocks have one length anyway
    values.setdefault("predict_with_generate", True)  # where the task writes texts
    if values.get("push_to_hub") and values.setdefault("hub_strategy", "end") != "end":
        # With each save Trainer uploads its arguments, too, a pickle with the token, while the folder still changes.
        raise Refusal(
            "a model is pushed once, when its run is complete",
            "--hub_strategy",
            "leave it out, or say end",
        )
    if values.pop("enable_jit_checkpoint", False):
        note("--enable_jit_checkpoint is left out: a run saves anyway when it is told to stop")
    if values.get("early_stopping_patience"):
        if values.setdefault("eval_strategy", "epoch") == "no":
            fix = "--eval_strategy epoch, or leave out --early_stopping_patience"
            raise Refusal(
                "without evaluations nothing can stop early", "--early_stopping_patience", fix
            )
        values.setdefault("save_strategy", values["eval_strategy"])
        values.setdefault("load_best_model_at_end", True)
    if any(
        values.get(name)
        for name in ("metric_name", "load_best_model_at_end", "early_stopping_patience")
    ):
        scored = values["predict_with_generate"] and not values.get("prediction_loss_only")
        by_default = HEADLINE if scored else "loss"
        values.setdefault("metric_for_best_model", values.get("metric_name", by_default))
    if values.get("metric_for_best_model", "").removeprefix("eval_") in LOWER_IS_BETTER:
        values.setdefault("greater_is_better", False)
