"""Refuses numbers outside the range of their flag.

Such a number would end in a library's error, or in no error at all.
"""

import math
from typing import Any

from recipes.common.runtime.errors import Refusal

Range = tuple[float, float]

COUNT: Range = (1, 2**31 - 1)
SOME: Range = (0, 2**31 - 1)  # a count that may be zero
SEED: Range = (0, 2**32 - 1)
SHARE: Range = (0, 1)
BELOW_ONE: Range = (0, 0.999999)
LENGTH: Range = (2, 2**31 - 1)
WORKERS: Range = (0, 512)  # processes of one machine
INTERVAL: Range = (1e-6, 2**31 - 1)  # a share of all steps, or a number of steps
POSITIVE: Range = (1e-12, 1e12)

OF_TRAINING_ARGUMENTS: dict[str, Range] = {
    "learning_rate": (0, 100),
    "num_train_epochs": (1e-6, 1e6),
    "max_steps": COUNT,
    "warmup_steps": SOME,
    "weight_decay": (0, 100),
    "max_grad_norm": (0, math.inf),  # 0 and inf: gradients are measured, not clipped
    "label_smoothing_factor": BELOW_ONE,
    "neftune_noise_alpha": (0, 1e6),
    "adam_beta1": BELOW_ONE,
    "adam_beta2": (0, 0.99999999),
    "adam_epsilon": (0, 1),
    "seed": SEED,
    "data_seed": SEED,
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "eval_accumulation_steps": COUNT,
    "torch_empty_cache_steps": COUNT,
    "logging_steps": INTERVAL,
    "eval_steps": INTERVAL,
    "save_steps": INTERVAL,
    "eval_delay": SOME,
    "save_total_limit": COUNT,
    "dataloader_num_workers": WORKERS,
    "dataloader_prefetch_factor": (1, 10_000),
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
    "local_rank": (0, 100_000),
    "generation_max_length": COUNT,
    "generation_num_beams": (1, 1000),
}
OF_RECIPES: dict[str, Range] = {
    "validation_split_percentage": (0, 100),
    "max_train_samples": COUNT,
    "max_eval_samples": COUNT,
    "max_predict_samples": COUNT,
    "shuffle_seed": SEED,
    "preprocessing_num_workers": (1, 512),
    "vocab_size": (2, 2_000_000),
    "lora_rank": (0, 65_536),
    "lora_alpha": POSITIVE,
    "lora_dropout": BELOW_ONE,
    "early_stopping_patience": SOME,
    "num_processes": (1, 100_000),
    "global_batch_size": COUNT,
    "tokens_per_batch": COUNT,
    "max_seq_length": LENGTH,
    "block_size": LENGTH,
    "eval_stride": SOME,
    "mlm_probability": (1e-6, 1),
    "mask_replace_prob": SHARE,
    "random_replace_prob": SHARE,
    "max_source_length": COUNT,
    "max_target_length": COUNT,
    "val_max_target_length": COUNT,
    "interim_eval_samples": SOME,
    "num_beams": (1, 1000),
}
RANGES = OF_TRAINING_ARGUMENTS | OF_RECIPES
# Values outside the range that mean "not set".
UNSET = {"max_steps": -1, "local_rank": -1}
WORDS: dict[Range, str] = {INTERVAL: "a number of steps, or below 1 a share of all steps"}


def check(values: dict[str, Any]) -> None:
    """Refuses numbers that are not finite or not in the range of their flag."""
    for name, value in values.items():
        if name in RANGES and value != UNSET.get(name):
            least, most = RANGES[name]
            _check_range(name, value, least, most)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Refusal(f"--{name} is {value}", f"--{name}", "give a finite number")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if least <= value <= most:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise Refusal(f"--{name} is {value}", f"--{name}", "give a finite number")
    fix = WORDS.get((least, most), f"a number from {_shown(least)} to {_shown(most)}")
    raise Refusal(f"--{name} is {_shown(value)}", f"--{name}", f"give {fix}")


def _shown(number: float) -> str:
    if isinstance(number, int):
        return str(number)
    return f"{number:.12g}"
