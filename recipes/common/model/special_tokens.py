"""Finds the tokens that start and end a text, and sets special ids in a model's configurations."""

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
# Other settings of a generation configuration that hold ids of the tokenizer it was written for.
OF_ANOTHER = (
    "bad_words_ids",
    "force_words_ids",
    "sequence_bias",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_decoder_ids",
)


def start_of_text(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Returns the ids that the tokenizer puts before a text: Llama's <s>, BERT's [CLS].

    GPT-2's tokenizer puts none.
    """
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    framed = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for place in range(len(framed) - len(plain) + 1):
        if framed[place : place + len(plain)] == plain:
            return tuple(framed[:place])
    return ()


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the id that ends a document: end of sequence, or the separator of BERT's relatives.

    Refuses a tokenizer that has neither.
    """
    found = _end(tokenizer)
    if found is None:
        fix = f"say which it is: {HINT}; or use another tokenizer"
        raise Refusal("the tokenizer has no token that ends a text", "--tokenizer_name", fix)
    return found


def _end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    if tokenizer.eos_token_id is None:
        return tokenizer.sep_token_id
    return tokenizer.eos_token_id


def agree(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether configuration and tokenizer have the same ids for end, start and padding of a text.

    An id that one of them lacks is no difference.
    """
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        expected = getattr(config, name, None)
        found = getattr(tokenizer, name)
        if expected is None or found is None:
            continue
        if not isinstance(expected, list | tuple):
            expected = [expected]
        if found not in expected:
            return False
    return True


def adopt(
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    published: PretrainedConfig | None = None,
    kept: Collection[str] = (),
) -> None:
    """Sets all special ids of a configuration to those of a tokenizer that is not its own.

    Without this, the ids are those of the published checkpoint. Llama's end, 2, is a quotation mark
    to another tokenizer, and Trainer would keep it beside the right one. `published` tells what
    the ids stood for, where `config` no longer does. The ids in `kept` are the user's, and stay.
    """
    published = published or config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PretrainedConfig):
            adopt(part, tokenizer, getattr(published, name, None), kept)
    for name, value in _ids_for(config, tokenizer, published).items():
        if name not in kept and (hasattr(config, name) or name in ENDS):
            setattr(config, name, value)


def _ids_for(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, published: PretrainedConfig
) -> dict[str, int | None]:
    """Returns the tokenizer's special ids by the names of the configuration's settings."""
    end = _end(tokenizer)
    values = {name: getattr(tokenizer, name) for name in IDS}
    values["eos_token_id"] = end
    # Not every configuration takes None for these three.
    for name in ("cls_token_id", "sep_token_id"):
        if values[name] is None:
            values[name] = end
    if values["mask_token_id"] is None:
        values["mask_token_id"] = getattr(config, "mask_token_id", None)
    if config.is_encoder_decoder:
        values["decoder_start_token_id"] = _decoder_start(published, tokenizer)
    if getattr(config, "forced_eos_token_id", None) is not None:
        values["forced_eos_token_id"] = end
    forced = getattr(config, "forced_bos_token_id", None)
    if forced is not None:
        # A forced token that does not start a text is a language.
        values["forced_bos_token_id"] = None
        if forced == published.bos_token_id:
            values["forced_bos_token_id"] = tokenizer.bos_token_id
    return values


def _decoder_start(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Returns the tokenizer's token in the role of the configuration's decoder start."""
    start = getattr(config, "decoder_start_token_id", None)
    if config.model_type in T5_LIKE:
        return tokenizer.pad_token_id
    if start is None:
        return _end(tokenizer)
    if start == getattr(config, "pad_token_id", None):
        return tokenizer.pad_token_id
    is_bos = start == getattr(config, "bos_token_id", None)
    if is_bos and tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    return _end(tokenizer)


def adopt_generation(generation: GenerationConfig, config: PretrainedConfig) -> None:
    """Sets the special ids of a generation configuration to those of the model's configuration.

    That one has adopted the tokenizer's ids.
    """
    text = config.get_text_config(decoder=True)
    # Otherwise the forced token is a language.
    forces_bos = generation.forced_bos_token_id == generation.bos_token_id
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(generation, name, getattr(config, name, getattr(text, name, None)))
    if generation.forced_bos_token_id is not None:
        generation.forced_bos_token_id = generation.bos_token_id if forces_bos else None
    if generation.forced_eos_token_id is not None:
        generation.forced_eos_token_id = generation.eos_token_id
    for name in OF_ANOTHER:
        if getattr(generation, name, None) is not None:
            setattr(generation, name, None)
