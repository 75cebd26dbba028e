"""What DeepSpeed, FSDP and torch.compile are told agrees with the flags, and the sizes of batches come out even."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note

CONFIGS = Path(__file__).resolve().parents[3] / "ds_configs"
ROWS = 8  # TrainingArguments' default for --per_device_train_batch_size
INSTALL = "install g++ (Debian: apt install g++)"
MODES = (
    "default",
    "reduce-overhead",
    "max-autotune",
    "max-autotune-no-cudagraphs",
)  # of torch.compile
SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def choose(values: dict[str, Any]) -> None:
    """Flags that follow from others: `--deepspeed zero3` names ds_configs/zero3.json, and --global_batch_size sets the
    accumulation, so that one command takes the same steps on any number of processes."""
    name = values.get("deepspeed")
    if name and not name.lstrip().startswith("{") and not Path(name).suffix:
        path = CONFIGS / f"{name}.json"
        if not path.is_file():
            known = [path.stem for path in sorted(CONFIGS.glob("*.json"))]
            fix = did_you_mean(name, known, f"known: {', '.join(known)}")
            raise Refusal(f"no DeepSpeed configuration {name!r}", "--deepspeed", fix)
        values["deepspeed"] = str(
            path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        )
    if values.get("global_batch_size"):
        values["gradient_accumulation_steps"] = _accumulation(values)


def _accumulation(values: dict[str, Any]) -> int:
    total, rows = values["global_batch_size"], values.get("per_device_train_batch_size", ROWS)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulated = values.get("gradient_accumulation_steps")
    together = rows * processes
    if accumulated and total != together * accumulated:
        sums = f"{rows} rows x {accumulated} accumulated x {processes} processes = {together * accumulated}"
        fix = "leave out --gradient_accumulation_steps: it follows"
        raise Refusal(f"{sums}, not {total}", "--global_batch_size", fix)
    if total < 1 or total % together:
        below = max(1, total // together) * together
        what = f"a step of {total} rows cannot be taken by {processes} processes x {rows} rows = {together}"
        fix = f"--global_batch_size {below} or {below + together}, or another --per_device_train_batch_size"
        raise Refusal(what, "--global_batch_size", fix)
    return total // together


def check(arguments: Any, training_arguments: Any) -> None:
    """Refuses an engine that cannot do what the flags say, and a configuration that says otherwise than they do."""
    if not training_arguments.do_train and not arguments.model_name_or_path:
        fix = "name a trained folder or a checkpoint: --model_name_or_path NAME; or say --do_train"
        raise Refusal("nothing is trained, and no model is named", "--model_name_or_path", fix)
    if training_arguments.fsdp and "WORLD_SIZE" not in os.environ:
        fix = "--launcher fsdp2 --num_processes 2, or torchrun --nproc_per_node 2"
        raise Refusal("one process has nobody to share a model with", "--fsdp", fix)
    _check_accelerator(training_arguments.accelerator_config)
    if training_arguments.auto_find_batch_size:
        fix = "lower --per_device_train_batch_size; with --global_batch_size N the curve stays the same"
        raise Refusal(
            "a batch that shrinks in mid-run changes the rows of a step",
            "--auto_find_batch_size",
            fix,
        )
    if training_arguments.debug:
        fix = "leave it out: a loss, a gradient or a weight that is not finite ends a run anyway, and names its rows"
        what = f"{training_arguments.debug[0].value} fails on masks of booleans, or needs a TPU"
        raise Refusal(what, "--debug", fix)
    _check_checkpointing(training_arguments)
    if training_arguments.torch_compile:
        _check_compiler(arguments, training_arguments)
    if training_arguments.deepspeed:
        _check_deepspeed(training_arguments)
    if by_fsdp := uses_fsdp(training_arguments):
        _check_fsdp(training_arguments)
    by_zero3 = training_arguments.deepspeed and training_arguments.hf_deepspeed_config.is_zero3()
    if arguments.load_in_4bit and (by_fsdp or by_zero3):
        fix = "--launcher ddp or zero2: every process then holds all of the four-bit weights"
        raise Refusal("weights of four bits cannot be shared out", "--load_in_4bit", fix)


def _check_accelerator(config: Any) -> None:
    """Refuses what would change which rows a step takes: the recipes' own order decides that."""
    if config.split_batches:
        fix = "leave it out: --global_batch_size N says how many rows a step takes in all"
        raise Refusal(
            "split_batches gives --per_device_train_batch_size another meaning",
            "--accelerator_config",
            fix,
        )
    usual = type(config)()
    for name in (
        "dispatch_batches",
        "even_batches",
        "use_seedable_sampler",
        "gradient_accumulation_kwargs",
    ):
        if getattr(config, name) != getattr(usual, name):
            fix = f"leave {name} out; --data_seed draws another order, --gradient_accumulation_steps N accumulates"
            raise Refusal(f"the recipe itself decides about {name}", "--accelerator_config", fix)


def _check_checkpointing(training_arguments: Any) -> None:
    """Refuses what torch's checkpoint function would not take in the first step."""
    known = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop")
    given = training_arguments.activation_checkpointing_kwargs or {}
    for name in given if isinstance(given, dict) else [given]:
        if name not in known:
            fix = did_you_mean(str(name), known, 'for example {"use_reentrant": false}')
            raise Refusal(f"no setting {name!r}", "--activation_checkpointing_kwargs", fix)


def uses_fsdp(training_arguments: Any) -> bool:
    """Whether --fsdp or the configuration of `accelerate launch` asks several processes to share a model out."""
    by_accelerate = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return "WORLD_SIZE" in os.environ and bool(training_arguments.fsdp or by_accelerate)


def _check_compiler(arguments: Any, training_arguments: Any) -> None:
    """Texts that are padded to their batch share one graph for all lengths: the environment tells accelerate so."""
    from accelerate.utils import DynamoBackend

    mode = training_arguments.torch_compile_mode
    if mode and mode not in MODES:
        fix = did_you_mean(mode, MODES, f"one of {', '.join(MODES)}")
        raise Refusal(f"torch.compile has no mode {mode!r}", "--torch_compile_mode", fix)
    known, backend = (
        [name.lower() for name in DynamoBackend.__members__],
        training_arguments.torch_compile_backend,
    )
    if backend.lower() not in known:
        fix = did_you_mean(backend, known, f"one of {', '.join(known)}")
        raise Refusal(f"torch.compile has no backend {backend!r}", "--torch_compile_backend", fix)
    if training_arguments.use_cpu and not _compiler():
        raise Refusal("torch.compile needs a C++ compiler on CPU", "--torch_compile", INSTALL)
    if hasattr(arguments, "tokens_per_batch") and not arguments.pad_to_max_length:
        os.environ.setdefault("ACCELERATE_DYNAMO_USE_DYNAMIC", "true")


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def _check_fsdp(training_arguments: Any) -> None:
    """Refuses what FSDP2 (accelerate 1.15, transformers 5.23) cannot do, or does wrong without a word."""
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    options = training_arguments.fsdp_plugin_args or {}
    if int(options.get("fsdp_version", os.environ.get("FSDP_VERSION", "1"))) != 2:
        raise Refusal(
            "of FSDP only its second version is used here", "--fsdp", "configure version 2"
        )
    plugin = FullyShardedDataParallelPlugin(**options)
    flags, on_cpu = (
        training_arguments,
        training_arguments.use_cpu and torch.accelerator.is_available(),
    )
    refused = [
        (
            not flags.do_train,
            "cannot only evaluate",
            "use --launcher ddp, or zero3 where one GPU is too small",
        ),
        (
            "FULL" not in plugin.state_dict_type.name,
            "would save no whole model",
            "choose FULL_STATE_DICT",
        ),
        (
            plugin.activation_checkpointing,
            "computes again with other dropout",
            "use --gradient_checkpointing",
        ),
        (
            isinstance(plugin.cpu_offload, CPUOffloadPolicy),
            "offloads nothing here",
            "use --launcher zero3_offload",
        ),
        (
            flags.fp16,
            "cannot go on with the scale of fp16's losses",
            "use --bf16, or --launcher zero3",
        ),
        (
            flags.save_on_each_node,
            "saves on the first machine only",
            "leave out --save_on_each_node",
        ),
        (
            on_cpu,
            "takes the GPUs, whatever --use_cpu says",
            "hide them: CUDA_VISIBLE_DEVICES= before the command",
        ),
    ]
    for is_asked, what, fix in refused:
        if is_asked:
            raise Refusal(f"FSDP2 {what}", "--fsdp", fix)


def _check_deepspeed(training_arguments: Any) -> None:
    """Refuses a configuration that says otherwise than the flags, saves no weights, or cannot be built."""
    from recipes.common.runtime import compile_locks

    compile_locks.watch()
    config, where = (
        training_arguments.hf_deepspeed_config,
        f"--deepspeed {training_arguments.deepspeed}",
    )
    for mismatch in config.mismatches:
        key, found, flag, wanted = re.fullmatch(
            r"- ds (\S+)=(.*) vs hf (.*?)=(.*)", mismatch
        ).groups()
        raise Refusal(
            _contradiction(key, found, flag, wanted, training_arguments),
            where,
            f'write "{key}": "auto"',
        )
    for block in ("optimizer", "scheduler"):
        if config.config.get(block):
            note(
                f"DeepSpeed's own {block} replaces Trainer's: the curve will differ from that of other launchers"
            )
    if config.is_zero3() and not config.is_true(
        "zero_optimization.stage3_gather_16bit_weights_on_model_save"
    ):
        fix = 'write "stage3_gather_16bit_weights_on_model_save": true'
        raise Refusal("this configuration would save a model without weights", where, fix)
    if (
        training_arguments.use_cpu
        and int(os.environ.get("WORLD_SIZE", "1")) > 1
        and not _compiler()
    ):
        fix = f"{INSTALL}; or train with --launcher ddp or fsdp2"
        raise Refusal(
            "DeepSpeed compiles its communication on CPU, and there is no C++ compiler", where, fix
        )


@contextmanager
def whole_model() -> Iterator[None]:
    """A model that is built here is whole on every process, and DeepSpeed shares it out later: built in parts
    (ZeRO-3), it would get other random weights than under any other engine."""
    from transformers.integrations import deepspeed

    known, deepspeed._hf_deepspeed_config_weak_ref = deepspeed._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


def _contradiction(key: str, found: str, flag: str, wanted: str, training_arguments: Any) -> str:
    if key not in SIZES:
        return f"{key} is {found}, but --{flag} is {wanted}"
    rows, accumulated = (
        training_arguments.per_device_train_batch_size,
        training_arguments.gradient_accumulation_steps,
    )
    processes = training_arguments.world_size
    total = rows * accumulated * processes
    return f"{key} is {found}, but {rows} rows x {accumulated} accumulated x {processes} processes = {total}"
