"""Configuration of a model: of a checkpoint, or of an architecture that begins with random weights."""

from collections.abc import Callable
from functools import partial
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

VOCABULARIES = (
    "decoder_vocab_size",
    "src_vocab_size",
    "tgt_vocab_size",
)  # of Marian and FSMT, beside vocab_size


def model_type_of(arguments: Arguments) -> str:
    """The architecture of a model that begins with random weights."""
    if arguments.config_name:
        return from_hub(AutoConfig, arguments.config_name, "--config_name", arguments).model_type
    return arguments.model_type or "bert"


def load_config(
    arguments: Arguments, tokenizer: PreTrainedTokenizerBase, **changes: Any
) -> PretrainedConfig:
    """The model's configuration: the checkpoint's, or that of --model_type; `changes` are the task's (labels, …)."""
    return config_and_whether_own(arguments, tokenizer, changes)[0]


def config_and_whether_own(
    arguments: Arguments, tokenizer: PreTrainedTokenizerBase, changes: dict[str, Any]
) -> tuple[PretrainedConfig, bool]:
    """The configuration, and whether its special ids were this tokenizer's before they were made so."""
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
        config, own = _new_config(arguments, tokenizer, changes), False
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    return config, own


def _new_config(
    arguments: Arguments, tokenizer: PreTrainedTokenizerBase, changes: dict[str, Any]
) -> PretrainedConfig:
    if not arguments.model_type:
        fix = "name a checkpoint: --model_name_or_path NAME, or an architecture: --model_type bert"
        raise Refusal("no model", "--model_name_or_path", fix)
    if arguments.model_type not in CONFIG_MAPPING:
        fix = did_you_mean(
            arguments.model_type,
            CONFIG_MAPPING,
            "for example bert, roberta, modernbert, gpt2, llama",
        )
        raise Refusal(f"unknown architecture {arguments.model_type!r}", "--model_type", fix)
    special = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in special}
    for name in ("cls", "sep"):  # not every configuration takes None for them
        ids[f"{name}_token_id"] = next(
            (i for i in (ids[f"{name}_token_id"], tokenizer.eos_token_id) if i is not None), None
        )
    default = _build(arguments.model_type)
    tokens = {name: len(tokenizer) for name in VOCABULARIES if name in default.to_dict()}
    build = partial(
        _build, arguments.model_type, vocab_size=len(tokenizer), **tokens, **ids, **changes
    )
    values = (
        config_overrides.parse(default, arguments.config_overrides)
        if arguments.config_overrides
        else {}
    )
    if following := config_overrides.derived(default, values):
        named = ", ".join(f"{key}={value}" for key, value in following.items())
        note(f"{named}: it follows from the number of attention heads")
    config = build(**values | following)  # anew, for some settings follow from others
    special_tokens.adopt(config, tokenizer, default, kept=values)
    return config


def _is_own(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, arguments: Arguments
) -> bool:
    """Whether a tokenizer is the one that a loaded configuration speaks of, perhaps with more tokens."""
    source = arguments.config_name or arguments.model_name_or_path
    named = arguments.tokenizer_name or arguments.model_name_or_path
    if named == source or not named:  # without a name it was trained here
        return named == source
    options = {"use_fast": arguments.use_fast_tokenizer, **hub_options(arguments)}
    try:
        own = model_folders.load(
            AutoTokenizer,
            model_folders.named(source, ""),
            "",
            arguments.trust_remote_code,
            **options,
        )
    except Refusal:
        return special_tokens.agree(config, tokenizer)
    if tokenizer_loading.is_empty(own):
        return special_tokens.agree(config, tokenizer)
    return own.get_vocab().items() <= tokenizer.get_vocab().items()


def _build(model_type: str, **values: Any) -> PretrainedConfig:
    try:
        return CONFIG_MAPPING[model_type](**values)
    except Exception as error:  # each architecture checks in its own way
        fix = "choose values that fit each other"
        raise Refusal(
            " ".join(str(error).split()), "--model_type and --config_overrides", fix
        ) from None


def _override(config: PretrainedConfig, overrides: str) -> None:
    """Changes a checkpoint's configuration in place."""
    for key, value in config_overrides.parse(config, overrides).items():
        try:
            setattr(config, key, value)
        except Exception as error:  # each architecture checks in its own way
            raise Refusal(
                f"{key}={value}: {reason(error)}",
                config_overrides.WHERE,
                "leave it out, or choose another",
            ) from None


def checkpoint_config(
    name: str, flag: str, arguments: Arguments, **changes: Any
) -> PretrainedConfig:
    """A checkpoint's configuration; of a folder of adapters that of the model under them."""
    if folder := adapters.folder_of(name, flag, **hub_options(arguments)):
        options = hub_options(arguments) | changes
        return adapters.config_of(folder, flag, arguments.trust_remote_code, **options)
    return from_hub(AutoConfig, name, flag, arguments, **changes)


def from_hub(
    auto_class: Any,
    name: str,
    flag: str,
    arguments: Arguments,
    load: Callable = model_folders.load,
    **options: Any,
) -> Any:
    """from_pretrained with the Hub's flags."""
    name = model_folders.named(name, flag)
    return load(
        auto_class, name, flag, arguments.trust_remote_code, **hub_options(arguments), **options
    )


def hub_options(arguments: Arguments) -> dict[str, Any]:
    """How the Hub is asked."""
    return {
        "cache_dir": arguments.cache_dir,
        "revision": arguments.model_revision,
        "token": arguments.token,
    }
