"""Builds a model's configuration: of a checkpoint, or of an architecture with random weights."""

from collections.abc import Callable
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from recipes.common.config.flags import Arguments
from recipes.common.model import (
    adapters,
    config_overrides,
    model_folders,
    special_tokens,
    tokenizer_loading,
)
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, reason

# Settings of Marian, FSMT and Inkling, beside vocab_size.
VOCABULARIES = ("decoder_vocab_size", "src_vocab_size", "tgt_vocab_size", "unpadded_vocab_size")


def model_type_of(arguments: Arguments) -> str:
    """Returns the architecture of a model that starts with random weights."""
    if arguments.config_name:
        return from_hub(AutoConfig, arguments.config_name, "--config_name", arguments).model_type
    return arguments.model_type or "bert"


def config_and_whether_own(
    arguments: Arguments, tokenizer: PreTrainedTokenizerBase, changes: dict[str, Any]
) -> tuple[PretrainedConfig, bool]:
    """Returns the model's configuration, and whether its special ids already were this tokenizer's.

    It is the checkpoint's, or that of --model_type, with the `changes` of the task (labels, …).
    Special ids of another tokenizer are replaced.
    """
    name = arguments.config_name or arguments.model_name_or_path
    if name:
        flag = "--config_name" if arguments.config_name else "--model_name_or_path"
        config = checkpoint_config(name, flag, arguments, **changes)
        own = _is_own(tokenizer, config, arguments)
        if not own:
            special_tokens.adopt(config, tokenizer)
        if arguments.config_overrides:
            _override(config, arguments.config_overrides)
    else:
        config = _new_config(arguments, tokenizer, changes)
        own = False
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    leave_out_unread_outputs(config)
    return config, own


def leave_out_unread_outputs(config: PretrainedConfig) -> None:
    """Switches off outputs that nobody reads here.

    With them `generate` returns an object instead of token ids, and an evaluation collects all
    hidden states.
    """
    for name in ("output_hidden_states", "output_attentions"):
        if getattr(config, name, False):
            setattr(config, name, False)
            note(f"{name} is switched off: nothing here reads them")


def _new_config(
    arguments: Arguments, tokenizer: PreTrainedTokenizerBase, changes: dict[str, Any]
) -> PretrainedConfig:
    """Returns the configuration of --model_type with the tokenizer's sizes and special ids."""
    model_type = arguments.model_type
    _check_model_type(model_type)
    default = _build(model_type)
    overrides = {}
    if arguments.config_overrides:
        overrides = config_overrides.parse(default, arguments.config_overrides)
    derived = config_overrides.derived(default, overrides)
    if derived:
        named = ", ".join(f"{key}={value}" for key, value in derived.items())
        note(f"{named}: it follows from the number of attention heads")
    values = {"vocab_size": len(tokenizer)}
    for name in VOCABULARIES:
        if name in default.to_dict():
            values[name] = len(tokenizer)
    values |= _special_ids(tokenizer) | changes | overrides | derived
    # It is built from all values at once, for some settings depend on others.
    config = _build(model_type, **values)
    special_tokens.adopt(config, tokenizer, default, kept=overrides)
    return config


def _check_model_type(model_type: str | None) -> None:
    if not model_type:
        fix = "name a checkpoint: --model_name_or_path NAME, or an architecture: --model_type bert"
        raise Refusal("no model", "--model_name_or_path", fix)
    if model_type not in CONFIG_MAPPING:
        examples = "for example bert, roberta, modernbert, gpt2, llama"
        fix = did_you_mean(model_type, CONFIG_MAPPING, examples)
        raise Refusal(f"unknown architecture {model_type!r}", "--model_type", fix)


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """Returns the ids of the special tokens, by the names of a configuration's settings."""
    ids = {}
    for name in ("pad", "bos", "eos", "cls", "sep"):
        ids[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    for name in ("cls_token_id", "sep_token_id"):  # not every configuration takes None for them
        if ids[name] is None:
            ids[name] = tokenizer.eos_token_id
    return ids


def _is_own(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, arguments: Arguments
) -> bool:
    """Whether a loaded configuration belongs to this tokenizer, which may have more tokens."""
    source = arguments.config_name or arguments.model_name_or_path
    named = arguments.tokenizer_name or arguments.model_name_or_path
    if named == source:
        return True
    if not named:  # the tokenizer was trained here
        return False
    options = {"use_fast": arguments.use_fast_tokenizer, **hub_options(arguments)}
    try:
        folder = model_folders.named(source, "")
        own = model_folders.load(AutoTokenizer, folder, "", arguments.trust_remote_code, **options)
    except Refusal:
        return special_tokens.agree(config, tokenizer)
    if tokenizer_loading.is_empty(own):
        return special_tokens.agree(config, tokenizer)
    return own.get_vocab().items() <= tokenizer.get_vocab().items()


def _build(model_type: str, **values: Any) -> PretrainedConfig:
    try:
        return CONFIG_MAPPING[model_type](**values)
    except Exception as error:  # each architecture checks in its own way
        what, fix = " ".join(str(error).split()), "choose values that fit each other"
        raise Refusal(what, "--model_type and --config_overrides", fix) from None


def _override(config: PretrainedConfig, overrides: str) -> None:
    """Changes a checkpoint's configuration in place."""
    for key, value in config_overrides.parse(config, overrides).items():
        try:
            setattr(config, key, value)
        except Exception as error:  # each architecture checks in its own way
            what, fix = f"{key}={value}: {reason(error)}", "leave it out, or choose another"
            raise Refusal(what, config_overrides.WHERE, fix) from None


def checkpoint_config(
    name: str, flag: str, arguments: Arguments, **changes: Any
) -> PretrainedConfig:
    """Returns a checkpoint's configuration; for a folder of adapters, that of its base model."""
    options = hub_options(arguments)
    folder = adapters.folder_of(name, flag, **options)
    if not folder:
        return from_hub(AutoConfig, name, flag, arguments, **changes)
    trust = arguments.trust_remote_code
    return adapters.config_of(folder, flag, trust, **options | changes)


def from_hub(
    auto_class: type,
    name: str,
    flag: str,
    arguments: Arguments,
    load: Callable = model_folders.load,
    **options: Any,
) -> Any:
    """Calls from_pretrained of a folder or a name on the Hub, with the flags for the Hub."""
    options |= hub_options(arguments)
    trust = arguments.trust_remote_code
    return load(auto_class, model_folders.named(name, flag), flag, trust, **options)


def hub_options(arguments: Arguments) -> dict[str, str | None]:
    """Returns the options of a request to the Hub."""
    return {
        "cache_dir": arguments.cache_dir,
        "revision": arguments.model_revision,
        "token": arguments.token,
    }
