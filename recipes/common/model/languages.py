"""Sets the languages of a model: each family's own tags, prefix and forced first token.

The saved folder keeps them.
"""

import re
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from recipes.common.data.sources import Reading
from recipes.common.runtime import upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Families that were trained with an instruction in front of the text.
PREFIXED = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
TAG = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")
# NLLB's tags for members of macrolanguages (ISO 639-3) that langcodes does not know as such:
# Fula, Pashto, Quechua.
MEMBERS = {"fuv": "ff", "pbt": "ps", "quy": "qu"}
# Families whose decoder starts with the target language. Others are forced to write it first.
STARTS_WITH_LANGUAGE = {"MBartTokenizer", "MBartTokenizerFast"}


class PairFlags(Protocol):
    """Holds the languages of a translation."""

    source_lang: str | None
    target_lang: str | None


class PrefixFlags(Protocol):
    """Holds the flags that decide how source and target texts start."""

    model_name_or_path: str | None
    source_prefix: str | None
    forced_bos_token: str | None


def pair(arguments: PairFlags) -> tuple[str, str]:
    """Returns --source_lang and --target_lang; refuses a missing one."""
    for side in ("source", "target"):
        if not getattr(arguments, f"{side}_lang"):
            fix = "name it as the data does: --source_lang en --target_lang de"
            raise Refusal(f"no {side} language", f"--{side}_lang", fix)
    return arguments.source_lang, arguments.target_lang


def reading(source: str, target: str) -> Reading:
    """Returns how the data of a language pair is read.

    Rows hold both languages in an object `translation`, or flat. train.en and train.de are parallel
    texts.
    """
    return Reading(nested="translation", languages=(_short(source), _short(target)))


def prepare(
    tokenizer: "PreTrainedTokenizerBase",
    model: "PreTrainedModel",
    arguments: PrefixFlags,
    languages: tuple[str | None, str | None],
    instruction: str,
) -> str:
    """Sets both languages in the tokenizer and the model; returns the prefix of source texts.

    M2M100, NLLB and mBART-50 are forced to write the target's tag as their first token. mBART's
    decoder starts with it. T5 and mT5 read a prefix: the instruction with the names of both
    languages. Marian and models from scratch know one pair only. All of it is saved with the model.
    """
    generation = model.generation_config
    # Otherwise from_pretrained makes another generation config, without the prefix.
    upstream.keep_generation_settings(generation)
    generation.prefix = _prefix(model, arguments, languages, instruction)
    source = tag(tokenizer, languages[0])
    target = tag(tokenizer, languages[1])
    if source and target:
        tokenizer.src_lang = source
        tokenizer.tgt_lang = target
        tokenizer.init_kwargs |= {"src_lang": source, "tgt_lang": target}
        first = token_id(tokenizer, target)
        if type(tokenizer).__name__ in STARTS_WITH_LANGUAGE:
            model.config.decoder_start_token_id = first
            generation.decoder_start_token_id = first
        else:
            generation.forced_bos_token_id = first
    if arguments.forced_bos_token:
        generation.forced_bos_token_id = _forced(tokenizer, arguments.forced_bos_token)
    return generation.prefix


def tag(tokenizer: "PreTrainedTokenizerBase", language: str | None) -> str:
    """Returns the tokenizer's own name of a language (de -> de, de_DE or deu_Latn).

    Returns "" for a tokenizer without language tags.
    """
    known = tags(tokenizer)
    if not known:
        return ""
    if language in known:
        return language
    where = "--source_lang, --target_lang or --lang"
    fix = f"use one of {', '.join(sorted(known))}"
    if not language:
        raise Refusal("the tokenizer needs to know the language", where, fix)
    found = match(language, known)
    if not found:
        raise Refusal(f"the tokenizer has no language {language!r}", where, fix)
    note(f"the language {language} is {found} to this tokenizer")
    return found


def tags(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Returns the language tags of a multilingual tokenizer; none for any other."""
    if hasattr(tokenizer, "lang_code_to_id"):
        return list(tokenizer.lang_code_to_id)
    return [token for token in tokenizer.all_special_tokens if TAG.fullmatch(token)]


def token_id(tokenizer: "PreTrainedTokenizerBase", language_tag: str) -> int:
    """Returns the id of the token that stands for a language tag in a text."""
    known = getattr(tokenizer, "lang_code_to_id", {})
    return known.get(language_tag) or tokenizer.convert_tokens_to_ids(language_tag)


def match(language: str, known: Iterable[str]) -> str:
    """Returns the tag of `known` that means the language in its usual script; else "".

    zh -> zho_Hans, zh-TW -> zho_Hant.
    """
    by_standard = {name.replace("_", "-"): name for name in known}
    wanted = language.replace("_", "-")
    if not _langcodes().tag_is_valid(wanted):
        return ""
    found = _langcodes().closest_supported_match(wanted, list(by_standard), max_distance=10)
    if found:
        return by_standard[found]
    for standard, name in by_standard.items():
        if _macrolanguage(standard) == _macrolanguage(wanted):
            return name
    return ""


def column(language: str, present: Iterable[str]) -> str:
    """Returns the column that holds a language.

    It has the language's name as given, or without region or script (en for en_XX), or a name that
    means the same language.
    """
    present = list(present)
    short = _short(language)
    for name in (language, short):
        if name in present:
            return name
    valid = [name for name in present if _langcodes().tag_is_valid(name.replace("_", "-"))]
    return match(language, valid) or short


@cache
def _langcodes() -> ModuleType:
    """Imports langcodes when it is needed.

    Its tables take 0.3 s, and a run from scratch needs none of them.
    """
    import langcodes

    return langcodes


def _short(language: str) -> str:
    return re.split("[_-]", language)[0]


def _english_name(language: str) -> str:
    """Returns the English name of a language code; other text counts as a name already."""
    if not _langcodes().tag_is_valid(_short(language)):
        return language
    return _langcodes().get(language.replace("_", "-")).language_name()


def _macrolanguage(name: str) -> str:
    language = _langcodes().get(name).prefer_macrolanguage().language
    return MEMBERS.get(language, language)


def _prefix(
    model: "PreTrainedModel",
    arguments: PrefixFlags,
    languages: tuple[str | None, str | None],
    instruction: str,
) -> str:
    if arguments.source_prefix is not None:
        return arguments.source_prefix
    if hasattr(model.generation_config, "prefix"):
        # The model was trained here, with this prefix.
        return model.generation_config.prefix
    if not arguments.model_name_or_path or model.config.model_type not in PREFIXED:
        return ""
    prefix = instruction
    if "{}" in instruction:
        prefix = instruction.format(*map(_english_name, languages))
    note(f"every source text gets the prefix {prefix!r} (--source_prefix changes it)")
    return prefix


def _forced(tokenizer: "PreTrainedTokenizerBase", token: str) -> int:
    found = token_id(tokenizer, token)
    if found in (None, tokenizer.unk_token_id):
        what, fix = f"the tokenizer has no token {token!r}", "name a token of its vocabulary"
        raise Refusal(what, "--forced_bos_token", fix)
    return found
