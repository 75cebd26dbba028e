"""Defines a flag and the facts about it, beside its name, type and default.

The facts of a recipe's own flag stand beside it: `setting(128, "Cut texts to this many tokens.",
TOKENS)`. Those of TrainingArguments' flags stand here.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Range = tuple[float, float]

COUNT: Range = (1, 2**31 - 1)
SOME: Range = (0, 2**31 - 1)  # a count that may be zero
SEED: Range = (0, 2**32 - 1)
SHARE: Range = (0, 1)
BELOW_ONE: Range = (0, 0.999999)
LENGTH: Range = (2, 2**31 - 1)
VOCABULARY: Range = (2, 2_000_000)
WORKERS: Range = (0, 512)  # processes of one machine
BEAMS: Range = (1, 1000)
INTERVAL: Range = (1e-6, 2**31 - 1)  # a share of all steps, or a number of steps
POSITIVE: Range = (1e-12, 1e12)


@dataclass(frozen=True)
class Facts:
    """Holds the facts about one flag."""

    range: Range | None = None  # of a number
    unset: float | None = None  # a number outside the range that means "not set"
    # The flag does nothing unless one of these flags is given.
    needs: tuple[str, ...] = ()
    # "data" or "model": the flag describes the data or the model. If the user names other data or
    # another model, the flags of this group in the lower configurations are ignored.
    group: str = ""
    is_data_set: bool = False  # its value names a data set of the Hub
    # A recipe's config.yaml sets it for its own model, or for its own sample. With another one the
    # value is ignored: a pretrained model needs another learning rate than random weights do.
    of_model: bool = False
    of_sample: bool = False
    may_be_empty: bool = False
    is_path: bool = False  # ~ becomes the home folder: behind = no shell replaces it
    is_recorded: bool = True  # in the record of a run
    is_free: bool = False  # another value gives the same model
    is_decided: bool = False  # the recipes decide it


TOKENS = Facts(range=LENGTH, of_model=True)  # the number of tokens of a text or a block
OF_DATA = Facts(group="data")
DATA_SET = Facts(group="data", is_data_set=True)
OF_MODEL = Facts(group="model")
RATE = Facts(range=(0, 100), of_model=True)
FREE = Facts(is_free=True)
DECIDED = Facts(is_decided=True)
CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
PUSHED = Facts(needs=("push_to_hub",))
FREE_COUNT = Facts(range=COUNT, is_free=True)
FREE_INTERVAL = Facts(range=INTERVAL, is_free=True)
UNRECORDED = Facts(is_recorded=False)

MAY_BE_EMPTY = Facts(may_be_empty=True)
PROBABILITY = Facts(range=SHARE)
ZERO_OR_MORE = Facts(range=SOME)
NOTHING = Facts()
OPTIONAL = {"nargs": "?", "const": True}  # a yes-or-no flag whose default is neither


def setting(default: Any, help: str, facts: Facts = NOTHING, **metadata: Any) -> Any:
    """Returns a dataclass field with its help sentence and its facts.

    A list becomes a default factory. `metadata` holds options of argparse's `add_argument`.
    """
    metadata |= {"help": help, "facts": facts}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


OF_TRAINING_ARGUMENTS: dict[str, Facts] = {
    # Optimizer and schedule
    "learning_rate": RATE,
    "num_train_epochs": Facts(range=(1e-6, 1e6), of_model=True),
    "max_steps": Facts(range=COUNT, unset=-1, of_model=True),
    "warmup_steps": Facts(range=SOME, of_model=True),
    "lr_scheduler_type": Facts(of_model=True),
    "weight_decay": RATE,
    # 0 and inf: gradients are measured, not clipped
    "max_grad_norm": Facts(range=(0, math.inf), of_model=True),
    "label_smoothing_factor": Facts(range=BELOW_ONE),
    "neftune_noise_alpha": Facts(range=(0, 1e6)),
    "adam_beta1": Facts(range=BELOW_ONE),
    "adam_beta2": Facts(range=(0, 0.99999999)),
    "adam_epsilon": Facts(range=SHARE),
    "seed": Facts(range=SEED),
    "data_seed": Facts(range=SEED),
    # Batches
    "per_device_train_batch_size": Facts(range=COUNT, of_model=True),
    "per_device_eval_batch_size": FREE_COUNT,
    "gradient_accumulation_steps": Facts(range=COUNT),
    "eval_accumulation_steps": FREE_COUNT,
    "dataloader_num_workers": Facts(range=WORKERS, is_free=True),
    "dataloader_persistent_workers": Facts(needs=("dataloader_num_workers",), is_free=True),
    "dataloader_pin_memory": FREE,
    "dataloader_prefetch_factor": Facts(range=(1, 10_000), is_free=True),
    # Memory, processes
    "activation_checkpointing": FREE,
    "activation_checkpointing_kwargs": Facts(needs=CHECKPOINTING),
    # Deprecated aliases of the two above
    "gradient_checkpointing": Facts(is_recorded=False, is_free=True),
    "gradient_checkpointing_kwargs": Facts(needs=CHECKPOINTING, is_recorded=False),
    "torch_empty_cache_steps": Facts(range=COUNT),
    "ddp_bucket_cap_mb": Facts(range=COUNT),
    "ddp_timeout": FREE_COUNT,
    "local_rank": Facts(range=(0, 100_000), unset=-1, is_recorded=False, is_decided=True),
    "fsdp": MAY_BE_EMPTY,
    "fsdp_config": Facts(needs=("fsdp",)),
    "liger_kernel_config": Facts(needs=("use_liger_kernel",)),
    "use_cpu": FREE,
    "accelerator_config": UNRECORDED,  # the recipes decide it
    # Logs, evaluations, checkpoints
    "disable_tqdm": FREE,
    "log_level": FREE,
    "logging_steps": FREE_INTERVAL,
    "report_to": FREE,
    "run_name": FREE,
    "debug": MAY_BE_EMPTY,
    "eval_steps": Facts(range=INTERVAL),
    "eval_delay": Facts(range=SOME),
    "output_dir": FREE,
    "save_steps": FREE_INTERVAL,
    "save_total_limit": FREE_COUNT,
    "resume_from_checkpoint": UNRECORDED,  # it concerns one start of the run only
    "generation_max_length": Facts(range=COUNT),
    "generation_num_beams": Facts(range=BEAMS),
    # The Hub
    "hub_model_id": PUSHED,
    "hub_strategy": PUSHED,
    "hub_private_repo": PUSHED,
    "hub_revision": PUSHED,
    "hub_always_push": PUSHED,
    # What the recipes decide
    "batch_eval_metrics": DECIDED,
    "eval_do_concat_batches": DECIDED,
    "remove_unused_columns": DECIDED,
    "label_names": DECIDED,
    "length_column_name": DECIDED,
    "include_for_metrics": DECIDED,
    "sortish_sampler": DECIDED,
    "eval_use_gather_object": DECIDED,
    "parallelism_config": DECIDED,
    "dataloader_multiprocessing_context": DECIDED,
    "ignore_data_skip": DECIDED,
    "restore_callback_states_from_checkpoint": DECIDED,
}


def data_sets(known: Mapping[str, Facts]) -> list[str]:
    """Returns the flags that name a data set of the Hub."""
    return [name for name, one in known.items() if one.is_data_set]


def of(*classes: type) -> dict[str, Facts]:
    """Returns the facts of every flag of these dataclasses. Any other flag has empty facts."""
    found: dict[str, Facts] = defaultdict(Facts)
    for one in classes:
        for item in dataclasses.fields(one):
            known = OF_TRAINING_ARGUMENTS.get(item.name, NOTHING)
            found[item.name] = item.metadata.get("facts", known)
    return found
