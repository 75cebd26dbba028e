"""One language pair -> each model family's own tags, prefix and forced first token, kept in the saved folder."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch

from recipes.common.data.sources import Reading
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note

# Families that were trained with an instruction in front of the text.
PREFIXED = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
# Characters of scripts that write no spaces between words: Chinese, Japanese, Thai.
UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\U00020000-\U0002ffff]"
)
TAG = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")
# NLLB's tags for members of macrolanguages (ISO 639-3) that langcodes does not know as such: Fula, Pashto, Quechua.
MEMBERS = {"fuv": "ff", "pbt": "ps", "quy": "qu"}
# Families whose decoder begins with the target language instead of being forced to write it first.
STARTS_WITH_LANGUAGE = {"MBartTokenizer", "MBartTokenizerFast"}


def pair(arguments: Any) -> tuple[str, str]:
    """--source_lang and --target_lang; refuses a missing one."""
    for side in ("source", "target"):
        if not getattr(arguments, f"{side}_lang"):
            fix = "name it as the data does: --source_lang en --target_lang de"
            raise Refusal(f"no {side} language", f"--{side}_lang", fix)
    return arguments.source_lang, arguments.target_lang


def reading(source: str, target: str) -> Reading:
    """Rows hold both languages in an object `translation` or flat; train.en and train.de are parallel texts."""
    return Reading(nested="translation", languages=(_short(source), _short(target)))


def prepare(
    tokenizer: Any,
    model: torch.nn.Module,
    arguments: Any,
    languages: tuple[str | None, str | None],
    instruction: str,
) -> str:
    """Sets the languages of both sides in tokenizer and generation config; the prefix that every source text gets.

    M2M100, NLLB and mBART-50 force the target's tag as first token, mBART begins the decoder with it, T5 and mT5 read
    a prefix, the instruction with the names of both languages; Marian and models from scratch know one pair. All of it
    is saved with the model.
    """
    generation = model.generation_config
    generation._from_model_config = (
        False  # or from_pretrained makes another one, without the prefix
    )
    generation.prefix = _prefix(model, arguments, languages, instruction)
    source, target = (tag(tokenizer, language) for language in languages)
    if source and target:
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        tokenizer.init_kwargs |= {"src_lang": source, "tgt_lang": target}
        first = token_id(tokenizer, target)
        if type(tokenizer).__name__ in STARTS_WITH_LANGUAGE:
            generation.decoder_start_token_id = model.config.decoder_start_token_id = first
        else:
            generation.forced_bos_token_id = first
    if arguments.forced_bos_token:
        generation.forced_bos_token_id = _forced(tokenizer, arguments.forced_bos_token)
    return generation.prefix


def tag(tokenizer: Any, language: str | None) -> str:
    """The tokenizer's own name of a language (de -> de, de_DE or deu_Latn), or "" for a tokenizer without tags."""
    known = tags(tokenizer)
    if not known or language in known:
        return language if known else ""
    found = match(language, known) if language else ""
    if not found:
        what = (
            f"the tokenizer has no language {language!r}"
            if language
            else "the tokenizer needs to know the language"
        )
        raise Refusal(
            what, "--source_lang, --target_lang or --lang", f"use one of {', '.join(sorted(known))}"
        )
    note(f"the language {language} is {found} to this tokenizer")
    return found


def tags(tokenizer: Any) -> list[str]:
    """The language tags of a multilingual tokenizer; none for any other."""
    if hasattr(tokenizer, "lang_code_to_id"):
        return list(tokenizer.lang_code_to_id)
    return [token for token in tokenizer.all_special_tokens if TAG.fullmatch(token)]


def token_id(tokenizer: Any, language_tag: str) -> int:
    """The id of a language tag as it stands in a text."""
    known = getattr(tokenizer, "lang_code_to_id", {})
    return known.get(language_tag) or tokenizer.convert_tokens_to_ids(language_tag)


def match(language: str, known: Iterable[str]) -> str:
    """The tag of `known` that means the language, in its usual script: zh -> zho_Hans, zh-TW -> zho_Hant; else ""."""
    by_standard = {name.replace("_", "-"): name for name in known}
    wanted = language.replace("_", "-")
    if not _langcodes().tag_is_valid(wanted):
        return ""
    found = _langcodes().closest_supported_match(wanted, list(by_standard), max_distance=10)
    if not found:
        same = (name for name in by_standard if _macro(name) == _macro(wanted))
        found = next(same, None)
    return by_standard[found] if found else ""


def column(language: str, present: Iterable[str]) -> str:
    """The column that holds a language: its name as given, without region or script (en for en_XX), or a match."""
    present = list(present)
    short = _short(language)
    exact = next((name for name in (language, short) if name in present), "")
    if exact:
        return exact
    valid = [name for name in present if _langcodes().tag_is_valid(name.replace("_", "-"))]
    return match(language, valid) or short


@cache
def _langcodes() -> Any:
    """Imported when it is asked: its tables take 0.3 s, and a run from scratch needs none of them."""
    import langcodes

    return langcodes


def _short(language: str) -> str:
    return re.split("[_-]", language)[0]


def _name(language: str) -> str:
    """In English; what is no code is a name already."""
    if not _langcodes().tag_is_valid(_short(language)):
        return language
    return _langcodes().get(language.replace("_", "-")).language_name()


def _macro(name: str) -> str:
    language = _langcodes().get(name).prefer_macrolanguage().language
    return MEMBERS.get(language, language)


def _prefix(
    model: torch.nn.Module,
    arguments: Any,
    languages: tuple[str | None, str | None],
    instruction: str,
) -> str:
    if arguments.source_prefix is not None:
        return arguments.source_prefix
    if hasattr(
        model.generation_config, "prefix"
    ):  # trained here: the model knows its texts with that one
        return model.generation_config.prefix
    if not arguments.model_name_or_path or model.config.model_type not in PREFIXED:
        return ""
    prefix = instruction.format(*map(_name, languages)) if "{}" in instruction else instruction
    note(f"every source text gets the prefix {prefix!r} (--source_prefix changes it)")
    return prefix


def _forced(tokenizer: Any, token: str) -> int:
    found = token_id(tokenizer, token)
    if found in (None, tokenizer.unk_token_id):
        raise Refusal(
            f"the tokenizer has no token {token!r}",
            "--forced_bos_token",
            "name a token of its vocabulary",
        )
    return found
