"""A tokenizer's special tokens -> what a text begins and ends with, and the ids in a model's configurations."""

from collections.abc import Collection

from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from recipes.common.model.tokenizer_loading import HINT
from recipes.common.model.tokenizer_training import T5_LIKE
from recipes.common.runtime.errors import Refusal

IDS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "cls_token_id",
    "sep_token_id",
    "mask_token_id",
)
ENDS = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
# What else of a generation configuration are ids of the tokenizer that it was written for.
OF_ANOTHER = (
    "bad_words_ids",
    "force_words_ids",
    "sequence_bias",
    "suppress_tokens",
    "begin_suppress_tokens",
)
OF_ANOTHER += ("forced_decoder_ids",)


def start_of_text(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids that the tokenizer puts before a text: Llama's <s>, BERT's [CLS]; GPT-2's puts none."""
    plain, framed = (
        list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True)
    )
    places = range(len(framed) - len(plain) + 1)
    first = next((place for place in places if framed[place : place + len(plain)] == plain), 0)
    return tuple(framed[:first])


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a document: the end-of-sequence token, or the separator of BERT's kind."""
    found = _end(tokenizer)
    if found is None:
        fix = f"say which it is: {HINT}; or use another tokenizer"
        raise Refusal("the tokenizer has no token that ends a text", "--tokenizer_name", fix)
    return found


def _end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    return tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id


def agree(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a configuration means the same ids as the tokenizer by the end, the begin and the padding of a text."""
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        meant, found = getattr(config, name, None), getattr(tokenizer, name)
        several = meant if isinstance(meant, list | tuple) else [meant]
        if None not in (meant, found) and found not in several:
            return False
    return True


def adopt(
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    published: PretrainedConfig | None = None,
    kept: Collection[str] = (),
) -> None:
    """Makes all special ids of a configuration those of a tokenizer that is not its own; `kept` are set by the user.

    Its ids are those of the published checkpoint: Llama's end, 2, is a quotation mark to another tokenizer, and
    Trainer would keep it beside the right one. What they stood for, `published` says where `config` does no more.
    """
    published = published or config
    for name in config.sub_configs:
        if isinstance(part := getattr(config, name, None), PretrainedConfig):
            adopt(part, tokenizer, getattr(published, name, None), kept)
    values = {name: getattr(tokenizer, name) for name in IDS} | {"eos_token_id": _end(tokenizer)}
    for name in (
        "cls_token_id",
        "sep_token_id",
        "mask_token_id",
    ):  # not every configuration takes None for them
        if values[name] is None:
            values[name] = (
                values["eos_token_id"] if name != "mask_token_id" else getattr(config, name, None)
            )
    if config.is_encoder_decoder:
        values["decoder_start_token_id"] = _decoder_start(published, tokenizer)
    if getattr(config, "forced_eos_token_id", None) is not None:
        values["forced_eos_token_id"] = values["eos_token_id"]
    if (
        getattr(config, "forced_bos_token_id", None) is not None
    ):  # a language, where it is not the begin of a text
        same = config.forced_bos_token_id == published.bos_token_id
        values["forced_bos_token_id"] = tokenizer.bos_token_id if same else None
    for name, value in values.items():
        if name not in kept and (hasattr(config, name) or name in ENDS):
            setattr(config, name, value)


def _decoder_start(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The tokenizer's token in the role of the one that the configuration's decoder begins with."""
    start = getattr(config, "decoder_start_token_id", None)
    if (
        config.model_type in T5_LIKE
        or start is not None
        and start == getattr(config, "pad_token_id", None)
    ):
        return tokenizer.pad_token_id
    begins = start is not None and start == getattr(config, "bos_token_id", None)
    if begins and tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    return _end(tokenizer)


def adopt_generation(generation: GenerationConfig, config: PretrainedConfig) -> None:
    """Makes the special ids of a generation configuration those of the configuration, which adopted the tokenizer's."""
    text = config.get_text_config(decoder=True)
    begins = (
        generation.forced_bos_token_id == generation.bos_token_id
    )  # rather than with a language
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(generation, name, getattr(config, name, getattr(text, name, None)))
    if generation.forced_bos_token_id is not None:
        generation.forced_bos_token_id = generation.bos_token_id if begins else None
    if generation.forced_eos_token_id is not None:
        generation.forced_eos_token_id = generation.eos_token_id
    for name in OF_ANOTHER:
        if getattr(generation, name, None) is not None:
            setattr(generation, name, None)
