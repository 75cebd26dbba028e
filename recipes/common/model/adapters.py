"""Adapters (LoRA, Hu et al. 2021): new ones for a model, and those of a folder, which holds no model of its own."""

import copy
import functools
import json
import os
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from recipes.common.model import model_folders, weights
from recipes.common.model.model_folders import ADAPTED
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason

FILE = "adapter_config.json"
TASKS = {"SEQ_CLS": "AutoModelForSequenceClassification", "CAUSAL_LM": "AutoModelForCausalLM"}
TASKS |= {"SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM"}
CLASSIFIERS = ("classifier", "score")  # which PEFT saves whole by itself
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
OF_ADAPTERS = ["adapter_*", f"{ADAPTED}/*", "*.json", "*.txt", "*.model"]  # with their tokenizer
IN_MODEL = "base_model.model."  # how the names of adapters' weights begin


def folder_of(name: str | None, flag: str = "", **hub: Any) -> Path | None:
    """The folder of adapters without a model of their own that a flag names; with `hub`, how the Hub is asked, also one
    of the Hub, which is then downloaded."""
    folder = Path(name or "").expanduser()
    if (
        hub
        and not folder.exists()
        and not folder.parent.is_dir()
        and HUB_NAME.fullmatch(name or "")
    ):
        folder = _downloaded(name, flag, **hub)
    return (
        folder
        if name and (folder / FILE).is_file() and not (folder / "config.json").is_file()
        else None
    )


@functools.cache
def _downloaded(name: str, flag: str, token: Any = None, **hub: Any) -> Path:
    """Where the Hub's adapters of this name lie in its cache; the name itself where the Hub has a model of this name.

    Without a network each request takes the Hub's library 23 seconds. A model in its cache needs no request. A name
    that is not there is refused after the first one.
    """
    if isinstance(try_to_load_from_cache(name, "config.json", **hub), str):
        return Path(name)
    try:
        hf_hub_download(name, FILE, token=token, **hub)
        return Path(snapshot_download(name, allow_patterns=OF_ADAPTERS, token=token, **hub))
    except LocalEntryNotFoundError as error:
        raise Refusal(
            f"cannot load {name}: {reason(error)}", flag, model_folders.NOT_THERE
        ) from None
    except (
        OSError,
        HFValidationError,
    ):  # there is no such file: whoever loads the model says what is wrong
        return Path(name)


def base_of(folder: Path, flag: str) -> str:
    """The name or path of the model under a folder's adapters.

    A relative path was written where the training was started, an absolute one perhaps on another machine: both are
    looked for in the folders above, too.
    """
    base = _described(folder, flag).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        fix = f"write its name or path into {folder / FILE}: base_model_name_or_path"
        raise Refusal(f"{folder} does not say which model its adapters belong to", flag, fix)
    absolute = os.path.isabs(base)
    if absolute and Path(base).is_dir():
        return base
    if found := _above(folder, base):
        if absolute:
            note(
                f"{base}, the model under the adapters in {folder}, is gone: {found} is taken for it"
            )
        return found
    if absolute:
        fix = f"put it back, or write its new path into {folder / FILE}: base_model_name_or_path"
        raise Refusal(f"the model under the adapters is gone: {base}", flag, fix)
    return base


def _above(folder: Path, base: str) -> str:
    """A path, or the end of an absolute one, that names a model as seen from a folder above; "" where there is none."""
    parts = Path(base).parts
    ends = (
        [Path(*parts[start:]) for start in range(1, len(parts))]
        if os.path.isabs(base)
        else [Path(base)]
    )
    places = (parent / end for parent in folder.resolve().parents for end in ends)
    return next((str(place) for place in places if (place / "config.json").is_file()), "")


def config_of(folder: Path, flag: str, trust_remote_code: bool, **options: Any) -> PretrainedConfig:
    """The configuration of the model under a folder's adapters, as they were trained for it.

    A folder that PEFT itself wrote does not hold it: then it is that of the model with a head as the adapters have it.
    """
    model_folders.check(folder, flag)
    own = folder / ADAPTED
    if (own / "config.json").is_file():
        return model_folders.load(AutoConfig, str(own), flag, trust_remote_code, **options)
    config = model_folders.load(
        AutoConfig, base_of(folder, flag), _under(folder, flag), trust_remote_code, **options
    )
    task = TASKS.get(str(_described(folder, flag).get("task_type")))
    architectures = getattr(transformers, task)._model_mapping if task else {}
    if type(config) in architectures:
        config.architectures = [architectures[type(config)].__name__]
    if task == TASKS["SEQ_CLS"] and "id2label" not in options:
        config.num_labels = _number_of_labels(folder, flag, config)
    return config


def tokenizer_of(folder: Path, flag: str) -> str:
    """Where the tokenizer of a folder of adapters lies: in it, or beside the model under them."""
    names = ("tokenizer_config.json", "tokenizer.json", "vocab.txt", "vocab.json")
    return (
        str(folder) if any((folder / name).is_file() for name in names) else base_of(folder, flag)
    )


def _under(folder: Path, flag: str) -> str:
    return f"{flag}: the model that {folder / FILE} names"


def _described(folder: Path, flag: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        fix = "name a folder that a training or PEFT wrote"
        raise Refusal(f"not what PEFT writes: {reason(error)}", str(folder / FILE), fix) from None


def _read(folder: Path, flag: str) -> dict[str, torch.Tensor]:
    """The weights of a folder's adapters, under the names that PEFT saves."""
    from peft import load_peft_weights

    model_folders.check(folder, flag)
    try:
        return load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # each library raises its own for a missing or damaged file
        if disk_error(error):
            raise
        fix = "a folder of adapters needs adapter_config.json and adapter_model.safetensors"
        raise Refusal(f"cannot load the adapters in {folder}: {reason(error)}", flag, fix) from None


def _number_of_labels(folder: Path, flag: str, config: PretrainedConfig) -> int:
    """The number of labels with which a model has a head of the adapters' sizes."""
    saved = {
        key.removeprefix(IN_MODEL): tuple(value.shape) for key, value in _read(folder, flag).items()
    }
    head = {key: size for key, size in saved.items() if key.split(".")[0] in CLASSIFIERS}
    for number in sorted({size[0] for size in head.values()}):
        tried = copy.deepcopy(config)
        tried.num_labels = number
        with torch.device("meta"):
            model = getattr(transformers, TASKS["SEQ_CLS"]).from_config(tried)
        sizes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        if all(sizes.get(key) == size for key, size in head.items()):
            return number
    return config.num_labels


def load(
    auto_class: Any,
    folder: Path,
    flag: str,
    trust_remote_code: bool,
    trained: bool = False,
    **options: Any,
) -> torch.nn.Module:
    """PEFT's model of a folder's adapters and the model under them; `trained`: they are trained further.

    Refuses adapters for another model, and a model of which a part came from neither.
    """
    base = base_of(folder, flag)
    options["ignore_mismatched_sizes"] = (
        True  # what has another size comes with the adapters, or is refused
    )
    model, new = weights.load(auto_class, base, _under(folder, flag), trust_remote_code, **options)
    weights.check_finite(model, base, flag)
    if (folder / ADAPTED / "generation_config.json").is_file():
        model.generation_config = model_folders.load(
            GenerationConfig, str(folder / ADAPTED), flag, False
        )
    if options.get("quantization_config"):
        model = prepare_4_bit(model)
    return _put_on(model, new, folder, flag, trained)


def _put_on(
    model: torch.nn.Module, new: Iterable[str], folder: Path, flag: str, trained: bool
) -> torch.nn.Module:
    """The model with a folder's adapters; `new` weights of its own must come with them."""
    from peft import LoraConfig, PeftConfig, set_peft_model_state_dict

    saved, base = _read(folder, flag), os.path.abspath(model.name_or_path)
    other = "name adapters that were made for this model, or train new ones: --lora_rank"
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig):
            raise Refusal(
                f"{folder} holds {config.peft_type} weights, not LoRA adapters", flag, other
            )
        config.inference_mode, config.base_model_name_or_path = not trained, None
        adapted = _wrap(model, config)
        lost = _lost(adapted, saved) or sorted({f"{IN_MODEL}{key}" for key in new} - saved.keys())
        strange = [] if lost else set_peft_model_state_dict(adapted, saved).unexpected_keys
    except (ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = " ".join(str(error).split()).removeprefix("Error(s) in loading state_dict for ")
        raise Refusal(f"the adapters in {folder} do not fit: {what}", flag, other) from None
    if strange or lost:
        what = (
            f"the folder lacks the weight {lost[0]}" if lost else f"the model has no {strange[0]}"
        )
        raise Refusal(f"the adapters in {folder} do not fit: {what}", flag, other)
    config.base_model_name_or_path = base if Path(base).is_dir() else model.name_or_path
    weights.check_finite(adapted, str(folder), flag)
    return adapted


def _lost(adapted: torch.nn.Module, saved: Collection[str]) -> list[str]:
    """The weights that PEFT would save and that are not among the `saved` ones."""
    from peft import get_peft_model_state_dict

    return sorted(get_peft_model_state_dict(adapted, save_embedding_layers=False).keys() - {*saved})


def check_reloaded(adapted: torch.nn.Module, checkpoint: Path) -> None:
    """Refuses to go on with adapters that a checkpoint did not bring: PEFT passes over those that are missing."""
    if lost := _lost(adapted, _read(checkpoint, "the checkpoint")):
        raise weights.LostWeight(f"it lacks the weight {lost[0]}")


def add(model: torch.nn.Module, arguments: Any, new: Collection[str]) -> torch.nn.Module:
    """The model with new adapters; modules with `new` weights are trained and saved whole, as the head is: whoever
    loads the adapters would draw others."""
    from peft import LoraConfig, TaskType

    if not arguments.model_name_or_path:
        fix = "name a checkpoint with --model_name_or_path, or leave --lora_rank out"
        raise Refusal("adapters need a trained model under them", "--lora_rank", fix)
    tasks = {"ForSequenceClassification": TaskType.SEQ_CLS, "ForCausalLM": TaskType.CAUSAL_LM}
    tasks |= {"ForConditionalGeneration": TaskType.SEQ_2_SEQ_LM}
    task = next(
        (task for ending, task in tasks.items() if type(model).__name__.endswith(ending)), None
    )
    modules = arguments.lora_target_modules
    whole = sorted({key.rpartition(".")[0] for key in new if key.split(".")[0] not in CLASSIFIERS})
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha or 2 * arguments.lora_rank,
        lora_dropout=arguments.lora_dropout,
        target_modules=modules if modules == "all-linear" else modules.split(","),
        exclude_modules=whole or None,
        modules_to_save=whole or None,
        task_type=task,
    )
    if arguments.load_in_4bit:
        model = prepare_4_bit(model)
    try:
        adapted = _wrap(model, config)
    except ValueError as error:
        raise Refusal(
            f"no adapters: {reason(error)}", "--lora_target_modules", "name modules of the model"
        ) from None
    if Path(arguments.model_name_or_path).is_dir():  # found again, wherever someone asks for it
        config.base_model_name_or_path = os.path.abspath(arguments.model_name_or_path)
    return adapted


def _wrap(model: torch.nn.Module, config: Any) -> torch.nn.Module:
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # PEFT (0.21) asks transformers for a name of yesterday
        warnings.filterwarnings(
            "ignore", message="fan_in_fan_out is set"
        )  # GPT-2's layers: PEFT does what is right
        return get_peft_model(model, config)


def prepare_4_bit(model: torch.nn.Module) -> torch.nn.Module:
    """The model ready for adapters on weights of four bits."""
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(
        without_repacking(model), use_gradient_checkpointing=False
    )


def without_repacking(model: torch.nn.Module) -> torch.nn.Module:
    """The model as it is: on a CPU with bf16 bitsandbytes (0.50.2) would pack its weights anew in the first evaluation,
    which it can neither train on afterwards nor do with sizes that are no multiples of 32 and 64."""
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    return model


def save_base_configuration(model: Any, folder: Path) -> None:
    """Writes what an adapter's own folder does not say: the configuration of the model that it belongs to."""
    base = model.get_base_model()
    config = copy.deepcopy(base.config)
    config.architectures = [type(base).__name__]
    vars(config).pop(
        "quantization_config", None
    )  # or the base's weights would count as quantized already
    config.save_pretrained(folder)
    if base.can_generate():
        base.generation_config.save_pretrained(folder)
