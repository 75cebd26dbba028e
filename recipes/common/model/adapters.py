"""Makes new adapters for a model, and loads those of a folder (LoRA, Hu et al. 2021).

A folder of adapters holds no whole model. It names the model under the adapters: the base model.
"""

import copy
import functools
import json
import os
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from recipes.common.config.flags import Arguments
from recipes.common.model import model_folders, weights
from recipes.common.model.model_folders import ADAPTED
from recipes.common.runtime import upstream
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel, TaskType

FILE = "adapter_config.json"
TASKS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}
WITH_LABELS = (TASKS["SEQ_CLS"], TASKS["TOKEN_CLS"])
CLASSIFIERS = ("classifier", "score")  # heads that PEFT itself saves whole
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
DOWNLOADED = ["adapter_*", f"{ADAPTED}/*", "*.json", "*.txt", "*.model"]  # with the tokenizer
OF_A_TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.txt", "vocab.json")
IN_MODEL = "base_model.model."  # how the names of adapters' weights begin


def folder_of(name: str | None, flag: str = "", **hub: str | None) -> Path | None:
    """Returns the folder that a flag names if it holds adapters and no whole model, else None.

    With `hub`, the options of a download, the name may also be one of the Hub: its adapters are
    downloaded.
    """
    if not name:
        return None
    folder = Path(name).expanduser()
    is_here = folder.exists() or folder.parent.is_dir()
    if hub and not is_here and HUB_NAME.fullmatch(name):
        folder = _downloaded(name, flag, **hub)
    if (folder / FILE).is_file() and not (folder / "config.json").is_file():
        return folder
    return None


@functools.cache
def _downloaded(name: str, flag: str, token: str | None = None, **hub: str | None) -> Path:
    """Downloads adapters from the Hub, and returns their folder in its cache.

    Returns the name itself where the Hub has no adapters of this name, but for example a model.
    Without a network each request takes the Hub's library 23 seconds. So a model that is in the
    cache needs no request, and a name that is not in it is refused after the first request.
    """
    if isinstance(try_to_load_from_cache(name, "config.json", **hub), str):
        return Path(name)
    try:
        hf_hub_download(name, FILE, token=token, **hub)
        return Path(snapshot_download(name, allow_patterns=DOWNLOADED, token=token, **hub))
    except LocalEntryNotFoundError as error:
        what = f"cannot load {name}: {reason(error)}"
        raise Refusal(what, flag, model_folders.NOT_THERE) from None
    except (OSError, HFValidationError):
        # There is no such file. The code that loads the model says what is wrong.
        return Path(name)


def base_of(folder: Path, flag: str) -> str:
    """Returns the name or the path of the base model of a folder's adapters.

    A relative path starts where the training was started. An absolute path may come from another
    machine. Both are also looked for in the folders above.
    """
    base = _described(folder, flag).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        fix = f"write its name or path into {folder / FILE}: base_model_name_or_path"
        raise Refusal(f"{folder} does not say which model its adapters belong to", flag, fix)
    absolute = os.path.isabs(base)
    if absolute and Path(base).is_dir():
        return base
    found = _above(folder, base)
    if not absolute:
        return found or base
    if not found:
        fix = f"put it back, or write its new path into {folder / FILE}: base_model_name_or_path"
        raise Refusal(f"the model under the adapters is gone: {base}", flag, fix)
    note(f"{base}, the model under the adapters in {folder}, is gone: using {found}")
    return found


def _above(folder: Path, base: str) -> str:
    """Returns the path of the base model under one of the folders above; "" where it is in none.

    Of an absolute path every end is tried: a/b/c, b/c and c of /a/b/c.
    """
    ends = [Path(base)]
    if os.path.isabs(base):
        parts = Path(base).parts
        ends = [Path(*parts[start:]) for start in range(1, len(parts))]
    for parent in folder.resolve().parents:
        for end in ends:
            if (parent / end / "config.json").is_file():
                return str(parent / end)
    return ""


def config_of(folder: Path, flag: str, trust_remote_code: bool, **options: Any) -> PretrainedConfig:
    """Returns the configuration of the base model, as the adapters were trained for it.

    A folder that PEFT itself wrote does not hold this configuration. Then it is the base model's
    own, with a head of the adapters' sizes.
    """
    model_folders.check(folder, flag)
    saved = folder / ADAPTED
    if (saved / "config.json").is_file():
        return model_folders.load(AutoConfig, str(saved), flag, trust_remote_code, **options)
    base = base_of(folder, flag)
    where = _where_base(folder, flag)
    config = model_folders.load(AutoConfig, base, where, trust_remote_code, **options)
    task = TASKS.get(str(_described(folder, flag).get("task_type")))
    if not task:
        return config
    architectures = upstream.architectures(getattr(transformers, task))
    if type(config) in architectures:
        config.architectures = [architectures[type(config)].__name__]
    if task in WITH_LABELS and "id2label" not in options:
        config.num_labels = _number_of_labels(folder, flag, config, task)
    return config


def tokenizer_of(folder: Path, flag: str) -> str:
    """Returns where the tokenizer of adapters is: in their folder, or beside the base model."""
    for name in OF_A_TOKENIZER:
        if (folder / name).is_file():
            return str(folder)
    return base_of(folder, flag)


def _where_base(folder: Path, flag: str) -> str:
    """Returns how a message names the place of the base model's name."""
    return f"{flag}: the model that {folder / FILE} names"


def _described(folder: Path, flag: str) -> dict[str, Any]:
    """Returns the content of a folder's adapter_config.json."""
    try:
        return dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        fix = "name a folder that a training or PEFT wrote"
        raise Refusal(f"not what PEFT writes: {reason(error)}", str(folder / FILE), fix) from None


def _saved_weights(folder: Path, flag: str) -> dict[str, torch.Tensor]:
    """Returns the weights of a folder's adapters, under the names that PEFT saves."""
    from peft import load_peft_weights

    model_folders.check(folder, flag)
    try:
        return load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # each library raises its own for a missing or damaged file
        if disk_error(error):
            raise
        fix = "a folder of adapters needs adapter_config.json and adapter_model.safetensors"
        raise Refusal(f"cannot load the adapters in {folder}: {reason(error)}", flag, fix) from None


def _number_of_labels(folder: Path, flag: str, config: PretrainedConfig, task: str) -> int:
    """Returns the number of labels that gives the model a head of the adapters' sizes."""
    head = {}
    for key, value in _saved_weights(folder, flag).items():
        name = key.removeprefix(IN_MODEL)
        if name.split(".")[0] in CLASSIFIERS:
            head[name] = value.shape
    for number in sorted({size[0] for size in head.values()}):
        tried = copy.deepcopy(config)
        tried.num_labels = number
        with torch.device("meta"):
            model = getattr(transformers, task).from_config(tried)
        sizes = {key: value.shape for key, value in model.state_dict().items()}
        if head.items() <= sizes.items():
            return number
    return config.num_labels


def load(
    auto_class: type,
    folder: Path,
    flag: str,
    trust_remote_code: bool,
    trained: bool = False,
    **options: Any,
) -> "PeftModel":
    """Returns PEFT's model: the base model with the adapters of a folder.

    With `trained` the adapters are trained further. Refuses adapters for another model. Also
    refuses a model with a part that comes neither from the adapters nor from the base model.
    """
    base = base_of(folder, flag)
    # A weight of another size comes with the adapters, or is refused below.
    options["ignore_mismatched_sizes"] = True
    where = _where_base(folder, flag)
    model, new = weights.load(auto_class, base, where, trust_remote_code, **options)
    weights.check_finite(model, base, flag)
    saved = folder / ADAPTED
    if (saved / "generation_config.json").is_file():
        model.generation_config = model_folders.load(GenerationConfig, str(saved), flag, False)
    if options.get("quantization_config"):
        model = prepare_4_bit(model)
    return _put_on(model, new, folder, flag, trained)


def _put_on(
    model: torch.nn.Module, new: Iterable[str], folder: Path, flag: str, trained: bool
) -> "PeftModel":
    """Returns the model with a folder's adapters, which must bring its `new` weights."""
    from peft import LoraConfig, PeftConfig

    saved = _saved_weights(folder, flag)
    path = os.path.abspath(model.name_or_path)
    fix = "name adapters that were made for this model, or train new ones: --lora_rank"
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig):
            what = f"{folder} holds {config.peft_type} weights, not LoRA adapters"
            raise Refusal(what, flag, fix)
        config.inference_mode = not trained
        config.base_model_name_or_path = None
        adapted = _wrap(model, config)
        misfit = _fill(adapted, saved, new)
    except (ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        misfit = message.removeprefix("Error(s) in loading state_dict for ")
        raise Refusal(f"the adapters in {folder} do not fit: {misfit}", flag, fix) from None
    if misfit:
        raise Refusal(f"the adapters in {folder} do not fit: {misfit}", flag, fix)
    config.base_model_name_or_path = model.name_or_path
    if Path(path).is_dir():
        config.base_model_name_or_path = path
    weights.check_finite(adapted, str(folder), flag)
    return adapted


def _fill(adapted: "PeftModel", saved: dict[str, torch.Tensor], new: Iterable[str]) -> str:
    """Loads the saved weights into adapters; returns what does not fit, or ""."""
    from peft import set_peft_model_state_dict

    lost = _lost(adapted, saved)
    if not lost:
        needed = {f"{IN_MODEL}{key}" for key in new}
        lost = sorted(needed - saved.keys())
    if lost:
        return f"the folder lacks the weight {lost[0]}"
    strange = set_peft_model_state_dict(adapted, saved).unexpected_keys
    if strange:
        return f"the model has no {strange[0]}"
    return ""


def _lost(adapted: "PeftModel", saved: Collection[str]) -> list[str]:
    """Returns the weights that PEFT would save, and that are not among the `saved` ones."""
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return sorted(expected.keys() - {*saved})


def check_reloaded(adapted: "PeftModel", checkpoint: Path) -> None:
    """Refuses to continue without an adapter that a checkpoint lacks: PEFT ignores missing ones."""
    lost = _lost(adapted, _saved_weights(checkpoint, "the checkpoint"))
    if lost:
        raise weights.LostWeight(f"it lacks the weight {lost[0]}")


def add(model: torch.nn.Module, arguments: Arguments, new: Collection[str]) -> "PeftModel":
    """Returns the model with new adapters.

    Modules with `new` weights are trained and saved whole, as the head is. Otherwise everyone who
    loads the adapters would get other random weights there.
    """
    from peft import LoraConfig

    if not arguments.model_name_or_path:
        fix = "name a checkpoint with --model_name_or_path, or leave --lora_rank out"
        raise Refusal("adapters need a trained model under them", "--lora_rank", fix)
    targets = arguments.lora_target_modules
    if targets != "all-linear":
        targets = targets.split(",")
    whole = _modules_of(new)
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha or 2 * arguments.lora_rank,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        exclude_modules=[*whole, *_saved_heads(model)] or None,
        modules_to_save=whole or None,
        task_type=_task_type(model),
    )
    if arguments.load_in_4bit:
        model = prepare_4_bit(model)
    try:
        adapted = _wrap(model, config)
    except ValueError as error:
        what, fix = f"no adapters: {reason(error)}", "name modules of the model"
        raise Refusal(what, "--lora_target_modules", fix) from None
    if Path(arguments.model_name_or_path).is_dir():
        # An absolute path is found from every working directory.
        config.base_model_name_or_path = os.path.abspath(arguments.model_name_or_path)
    return adapted


def _modules_of(keys: Iterable[str]) -> list[str]:
    """Returns the modules that hold these weights, without the heads that PEFT saves by itself."""
    modules = set()
    for key in keys:
        if key.split(".")[0] not in CLASSIFIERS:
            modules.add(key.rpartition(".")[0])
    return sorted(modules)


def _saved_heads(model: torch.nn.Module) -> list[str]:
    """Returns heads that PEFT saves whole. "all-linear" includes them, except in text classifiers.

    A head that is saved whole can have no adapters.
    """
    return [name for name in CLASSIFIERS if isinstance(getattr(model, name, None), torch.nn.Linear)]


def _task_type(model: torch.nn.Module) -> "TaskType | None":
    """Returns PEFT's name of a model's task; None for the tasks that have none."""
    from peft import TaskType

    tasks = {
        "ForSequenceClassification": TaskType.SEQ_CLS,
        "ForTokenClassification": TaskType.TOKEN_CLS,
        "ForCausalLM": TaskType.CAUSAL_LM,
        "ForConditionalGeneration": TaskType.SEQ_2_SEQ_LM,
    }
    for ending, task in tasks.items():
        if type(model).__name__.endswith(ending):
            return task
    return None


def _wrap(model: torch.nn.Module, config: "LoraConfig") -> "PeftModel":
    from peft import get_peft_model

    with warnings.catch_warnings():
        # PEFT (0.21) uses a deprecated name of transformers.
        warnings.simplefilter("ignore", FutureWarning)
        # PEFT itself corrects this setting for GPT-2's layers.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set")
        return get_peft_model(model, config)


def prepare_4_bit(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the model ready for adapters on weights of four bits."""
    from peft import prepare_model_for_kbit_training

    model = without_repacking(model)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def without_repacking(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the same model, whose weights bitsandbytes (0.50.2) then does not pack again.

    On a CPU with bf16 it would pack them again in the first evaluation. Afterwards it cannot train
    on them. It also cannot pack sizes that are no multiples of 32 and 64.
    """
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    return model


def save_base_configuration(model: "PeftModel", folder: Path) -> None:
    """Writes the base model's configuration, which the files of an adapter do not hold."""
    base = model.get_base_model()
    config = copy.deepcopy(base.config)
    config.architectures = [type(base).__name__]
    # Otherwise the base model's weights would count as quantized already.
    vars(config).pop("quantization_config", None)
    config.save_pretrained(folder)
    if base.can_generate():
        base.generation_config.save_pretrained(folder)
