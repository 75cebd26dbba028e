"""Refuses settings of DeepSpeed, FSDP and torch.compile that contradict the flags or cannot work.

Also computes the accumulation from --global_batch_size.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from recipes.common.config import step_sizes
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from transformers.trainer_pt_utils import AcceleratorConfig

    from recipes.common.config.flags import Arguments

CONFIGS = Path(__file__).resolve().parents[3] / "ds_configs"
ROWS = 8  # TrainingArguments' default for --per_device_train_batch_size
INSTALL = "install g++ (Debian: apt install g++)"
# The modes of torch.compile.
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
# The sizes in a configuration of DeepSpeed.
SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
MISMATCH = re.compile(r"- ds (\S+)=(.*) vs hf (.*?)=(.*)")  # as transformers writes it
# Settings of accelerate that the recipes decide.
DECIDED = (
    "dispatch_batches",
    "even_batches",
    "use_seedable_sampler",
    "gradient_accumulation_kwargs",
)
# Settings of torch.utils.checkpoint.checkpoint.
CHECKPOINTING = (
    "use_reentrant",
    "preserve_rng_state",
    "determinism_check",
    "debug",
    "early_stop",
)


def choose(values: dict[str, Any]) -> None:
    """Sets flags that follow from others.

    `--deepspeed zero3` becomes ds_configs/zero3.json. --global_batch_size sets the accumulation, so
    that one command takes the same steps on any number of processes.
    """
    name = values.get("deepspeed")
    if name and not name.lstrip().startswith("{") and not Path(name).suffix:
        values["deepspeed"] = _shipped_config(name)
    if values.get("global_batch_size"):
        values["gradient_accumulation_steps"] = _accumulation(values)


def _shipped_config(name: str) -> str:
    path = CONFIGS / f"{name}.json"
    if not path.is_file():
        known = [path.stem for path in sorted(CONFIGS.glob("*.json"))]
        fix = did_you_mean(name, known, f"known: {', '.join(known)}")
        raise Refusal(f"no DeepSpeed configuration {name!r}", "--deepspeed", fix)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)


def _accumulation(values: dict[str, Any]) -> int:
    total = values["global_batch_size"]
    rows = values.get("per_device_train_batch_size", ROWS)
    processes = step_sizes.number_of_processes()
    accumulated = values.get("gradient_accumulation_steps")
    together = step_sizes.rows_per_step(rows, 1, processes)
    if accumulated and total != step_sizes.rows_per_step(rows, accumulated, processes):
        product = _product(rows, accumulated, processes)
        fix = "leave out --gradient_accumulation_steps: it follows"
        raise Refusal(f"{product}, not {total}", "--global_batch_size", fix)
    if total < 1 or total % together:
        below = max(1, total // together) * together
        what = (
            f"a step of {total} rows cannot be taken by "
            f"{processes} processes x {rows} rows = {together}"
        )
        fix = (
            f"--global_batch_size {below} or {below + together}, "
            "or another --per_device_train_batch_size"
        )
        raise Refusal(what, "--global_batch_size", fix)
    return total // together


def _product(rows: int, accumulated: int, processes: int) -> str:
    total = step_sizes.rows_per_step(rows, accumulated, processes)
    return f"{rows} rows x {accumulated} accumulated x {processes} processes = {total}"


def check(arguments: "Arguments", training_arguments: "TrainingArguments") -> None:
    """Refuses an engine that contradicts the flags or cannot do what they say."""
    from transformers.debug_utils import DebugOption

    if not training_arguments.do_train and not arguments.model_name_or_path:
        fix = "name a trained folder or a checkpoint: --model_name_or_path NAME; or say --do_train"
        raise Refusal("nothing is trained, and no model is named", "--model_name_or_path", fix)
    if training_arguments.fsdp and "WORLD_SIZE" not in os.environ:
        fix = "--launcher fsdp2 --num_processes 2, or torchrun --nproc_per_node 2"
        raise Refusal("a single process cannot shard a model", "--fsdp", fix)
    # TrainingArguments makes an AcceleratorConfig of what it is given, but does not declare it.
    _check_accelerator(cast("AcceleratorConfig", training_arguments.accelerator_config))
    if training_arguments.auto_find_batch_size:
        what = "a batch that shrinks during a run changes the rows per step"
        fix = (
            "lower --per_device_train_batch_size; "
            "with --global_batch_size N the curve stays the same"
        )
        raise Refusal(what, "--auto_find_batch_size", fix)
    if training_arguments.debug:
        option = DebugOption(training_arguments.debug[0])
        what = f"{option.value} fails on masks of booleans, or needs a TPU"
        fix = (
            "leave it out: a loss, a gradient or a weight that is not finite ends a run anyway, "
            "and names its rows"
        )
        raise Refusal(what, "--debug", fix)
    _check_checkpointing(training_arguments)
    if training_arguments.torch_compile:
        _check_compiler(arguments, training_arguments)
    if training_arguments.deepspeed:
        _check_deepspeed(training_arguments)
    if uses_fsdp(training_arguments):
        _check_fsdp(training_arguments)
    if arguments.load_in_4bit and _shards_weights(training_arguments):
        fix = "--launcher ddp or zero2: every process then holds all of the four-bit weights"
        raise Refusal("weights of four bits cannot be sharded", "--load_in_4bit", fix)


def _check_accelerator(config: "AcceleratorConfig") -> None:
    """Refuses settings that would change the rows of a step: the recipes' sampler decides them."""
    if config.split_batches:
        what = "split_batches gives --per_device_train_batch_size another meaning"
        fix = "leave it out: --global_batch_size N says how many rows a step takes in all"
        raise Refusal(what, "--accelerator_config", fix)
    usual = type(config)()
    for name in DECIDED:
        if getattr(config, name) != getattr(usual, name):
            fix = (
                f"leave {name} out; --data_seed draws another order, "
                "--gradient_accumulation_steps N accumulates"
            )
            raise Refusal(f"the recipe itself decides about {name}", "--accelerator_config", fix)


def _check_checkpointing(training_arguments: "TrainingArguments") -> None:
    """Refuses settings that torch's checkpoint function would refuse in the first step."""
    given = training_arguments.activation_checkpointing_kwargs or {}
    names = given if isinstance(given, dict) else [given]
    for name in names:
        if name not in CHECKPOINTING:
            fix = did_you_mean(str(name), CHECKPOINTING, 'for example {"use_reentrant": false}')
            raise Refusal(f"no setting {name!r}", "--activation_checkpointing_kwargs", fix)


def uses_fsdp(training_arguments: "TrainingArguments") -> bool:
    """Whether --fsdp or the configuration of `accelerate launch` shards a model over processes."""
    by_accelerate = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return "WORLD_SIZE" in os.environ and bool(training_arguments.fsdp or by_accelerate)


def _shards_weights(training_arguments: "TrainingArguments") -> bool:
    if uses_fsdp(training_arguments):
        return True
    return bool(training_arguments.deepspeed and training_arguments.hf_deepspeed_config.is_zero3())


def _check_compiler(arguments: "Arguments", training_arguments: "TrainingArguments") -> None:
    """Refuses a mode or backend that torch.compile does not know, and a CPU without a compiler.

    Also tells accelerate, by a variable of the environment, to compile one graph for all lengths,
    where texts are padded to the longest of their batch.
    """
    from accelerate.utils import DynamoBackend

    mode = training_arguments.torch_compile_mode
    if mode and mode not in MODES:
        fix = did_you_mean(mode, MODES, f"one of {', '.join(MODES)}")
        raise Refusal(f"torch.compile has no mode {mode!r}", "--torch_compile_mode", fix)
    known = [name.lower() for name in DynamoBackend.__members__]
    backend = training_arguments.torch_compile_backend
    if backend is not None and backend.lower() not in known:
        fix = did_you_mean(backend, known, f"one of {', '.join(known)}")
        raise Refusal(f"torch.compile has no backend {backend!r}", "--torch_compile_backend", fix)
    if training_arguments.use_cpu and not _compiler():
        raise Refusal("torch.compile needs a C++ compiler on CPU", "--torch_compile", INSTALL)
    if hasattr(arguments, "tokens_per_batch") and not arguments.pad_to_max_length:
        os.environ.setdefault("ACCELERATE_DYNAMO_USE_DYNAMIC", "true")


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def _check_fsdp(training_arguments: "TrainingArguments") -> None:
    """Refuses what FSDP2 (accelerate 1.15, transformers 5.23) cannot do or silently does wrong."""
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    options = training_arguments.fsdp_plugin_args or {}
    version = options.get("fsdp_version", os.environ.get("FSDP_VERSION", "1"))
    if int(version) != 2:
        what = "only the second version of FSDP is used here"
        raise Refusal(what, "--fsdp", "configure version 2")
    plugin = FullyShardedDataParallelPlugin(**options)
    if not training_arguments.do_train:
        fix = "use --launcher ddp, or zero3 where one GPU is too small"
        raise Refusal("FSDP2 works in a training only", "--fsdp", fix)
    if "FULL" not in plugin.state_dict_type.name:
        raise Refusal("FSDP2 would save no whole model", "--fsdp", "choose FULL_STATE_DICT")
    if plugin.activation_checkpointing:
        what = "FSDP2 computes activations again with other dropout"
        raise Refusal(what, "--fsdp", "use --gradient_checkpointing")
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise Refusal("FSDP2 offloads nothing here", "--fsdp", "use --launcher zero3_offload")
    if training_arguments.fp16:
        what = "FSDP2 cannot continue with the loss scale of fp16"
        raise Refusal(what, "--fsdp", "use --bf16, or --launcher zero3")
    if training_arguments.save_on_each_node:
        what = "FSDP2 saves on the first machine only"
        raise Refusal(what, "--fsdp", "leave out --save_on_each_node")
    if training_arguments.use_cpu and torch.accelerator.is_available():
        what = "FSDP2 takes the GPUs, whatever --use_cpu says"
        raise Refusal(what, "--fsdp", "hide them: CUDA_VISIBLE_DEVICES= before the command")


def _check_deepspeed(training_arguments: "TrainingArguments") -> None:
    """Refuses a configuration that contradicts the flags, saves no weights, or cannot be built."""
    from recipes.common.runtime import compile_locks

    compile_locks.watch()
    config = training_arguments.hf_deepspeed_config
    where = f"--deepspeed {training_arguments.deepspeed}"
    for mismatch in config.mismatches:
        parts = MISMATCH.fullmatch(mismatch)
        if parts is None:
            raise ValueError(f"transformers writes this in another way: {mismatch}")
        key, found, flag, wanted = parts.groups()
        what = f"{key} is {found}, but --{flag} is {wanted}"
        if key in SIZES:
            what = f"{key} is {found}, but {_product_of(training_arguments)}"
        raise Refusal(what, where, f'write "{key}": "auto"')
    for block in ("optimizer", "scheduler"):
        if config.config.get(block):
            note(
                f"DeepSpeed's own {block} replaces Trainer's: "
                "the curve will differ from that of other launchers"
            )
    gathers = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
    if config.is_zero3() and not config.is_true(gathers):
        fix = 'write "stage3_gather_16bit_weights_on_model_save": true'
        raise Refusal("this configuration would save a model without weights", where, fix)
    if training_arguments.use_cpu and step_sizes.number_of_processes() > 1 and not _compiler():
        what = "DeepSpeed compiles its communication on CPU, and there is no C++ compiler"
        fix = f"{INSTALL}; or train with --launcher ddp or fsdp2"
        raise Refusal(what, where, fix)


def _product_of(training_arguments: "TrainingArguments") -> str:
    return _product(
        training_arguments.per_device_train_batch_size,
        training_arguments.gradient_accumulation_steps,
        training_arguments.world_size,
    )


@contextmanager
def whole_model() -> Iterator[None]:
    """Lets every process build a whole model, which DeepSpeed shards later.

    Built in parts (ZeRO-3), it would get other random weights than under any other engine.
    """
    with upstream.without_deepspeed():
        yield
