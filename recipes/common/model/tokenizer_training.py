"""Training text -> a tokenizer with the special tokens of the model's family, the same tokens at every run."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from recipes.common.runtime.errors import Refusal

# The special tokens that each family of architectures is defined with; everything else gets BERT's.
BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
BERT_TOKENS |= {"mask_token": "[MASK]"}
ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
ROBERTA_TOKENS |= {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"}
GPT_TOKENS = {
    "eos_token": "<|endoftext|>",
    "bos_token": "<|endoftext|>",
    "pad_token": "<|pad|>",
    "unk_token": "<unk>",
}
T5_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
T5_LIKE = {"t5", "mt5", "umt5", "longt5", "switch_transformers", "marian", "pegasus", "pegasus_x"}
ROBERTA_LIKE = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "bart",
    "mbart",
    "longformer",
    "data2vec-text",
    "mpnet",
}
ENCODER_DECODERS = {*MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
GPT_LIKE = (
    {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - {*MODEL_FOR_MASKED_LM_MAPPING_NAMES} - ENCODER_DECODERS
)
# Of a vocabulary: tokens for all bytes, for the root of the text's length, and the length from which it grows no more.
BYTES, TOKENS, LONG = 256, 4, 60_000_000
PIECES, PIECE = (
    500,
    500,
)  # how much of the text is tried to come back: so many pieces of so many characters


def train_tokenizer(
    texts: Iterable[str],
    algorithm: str | None,
    vocab_size: int,
    model_type: str,
    do_lower_case: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer with at most `vocab_size` tokens; knows every character of `texts`, which may be read twice.

    Without an algorithm it is the one of the model's family. WordPiece forgets how many spaces and line breaks there
    were, and sets every Chinese character apart, as BERT does; byte-level BPE knows every string; Unigram joins Chinese
    characters to words of their own, apart from Latin ones.
    """
    special, train = (
        special_tokens(model_type),
        ALGORITHMS[algorithm or default_algorithm(model_type)],
    )
    tokens = list(dict.fromkeys(special.values()))
    if iter(texts) is texts:
        raise TypeError(
            "texts must be readable twice: a list or an object with __iter__, not an iterator"
        )
    tokenizer = train(texts, vocab_size, tokens, special.get("unk_token"), do_lower_case)
    tokenizer.add_special_tokens(tokens)
    add_template(tokenizer, special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **special,
    )


def fitting_size(texts: Iterable[str]) -> int:
    """How many tokens suit a text: room for its characters, and more tokens the longer it is, as the number of
    different words grows (Heaps' law). About 2,000 for 200,000 characters, 4,500 for a million, at most 32,000."""
    length, characters = 0, set()
    for text in texts:
        length += len(text)
        characters.update(text)
        if length > LONG:
            break
    tokens = BYTES + 2 * len(characters) + TOKENS * min(length, LONG) ** 0.5
    return math.ceil(tokens / 100) * 100


def special_tokens(model_type: str) -> dict[str, str]:
    """The special tokens of a model type, by Hugging Face's names."""
    if model_type in T5_LIKE:
        return T5_TOKENS
    if model_type in GPT_LIKE:
        return GPT_TOKENS
    if model_type in ROBERTA_LIKE | ENCODER_DECODERS or _counts_as_roberta(model_type):
        return ROBERTA_TOKENS
    return BERT_TOKENS


def _counts_as_roberta(model_type: str) -> bool:
    """Whether a configuration's own special tokens are those of RoBERTa: <s> is 0, <pad> is 1, </s> is 2."""
    if model_type not in CONFIG_MAPPING:
        return False
    config = CONFIG_MAPPING[model_type]
    return [getattr(config, f"{name}_token_id", None) for name in ("bos", "pad", "eos")] == [
        0,
        1,
        2,
    ]


def default_algorithm(model_type: str) -> str:
    """How the tokenizers of a model's family are trained: WordPiece for BERT's, byte-level BPE for all others, which
    write texts or are trained on texts with capitals, line breaks and indentation."""
    return "wordpiece" if special_tokens(model_type) is BERT_TOKENS else "bpe"


def writes(model_type: str) -> bool:
    """Whether models of a family write texts, for which every space counts; WordPiece keeps none."""
    return default_algorithm(model_type) == "bpe"


def round_trip(tokenizer: Any, texts: Iterable[str], spaces: bool = True) -> float:
    """The share of the first pieces of the texts that a tokenizer gives back as they were, or but for their spaces."""
    pieces = list(islice(_pieces(texts), PIECES))
    if not pieces:
        return 0.0
    encoded = tokenizer(pieces, add_special_tokens=False)["input_ids"]
    given_back = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False)
    if not spaces:
        pieces, given_back = (
            ["".join(text.split()) for text in found] for found in (pieces, given_back)
        )
    return sum(one == other for one, other in zip(pieces, given_back, strict=True)) / len(pieces)


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), PIECE):
            yield text[start : start + PIECE]


def _wordpiece(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    """The trainer numbers the pieces `##x` in the order of a hash map, and ties between merges follow those numbers:
    two runs got two vocabularies. Given beforehand, in order, they do not. They are no special tokens, so the model
    is taken over into a tokenizer of its own."""
    trained = wordpiece_tokenizer(models.WordPiece(unk_token=unknown), lower)
    alphabet, pieces = _alphabet(texts, trained)
    if vocab_size < len(tokens) + len(alphabet) + len(pieces):
        raise _too_small(
            vocab_size, f"the text alone needs {len(tokens) + len(alphabet) + len(pieces)} tokens"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=tokens + pieces,
        limit_alphabet=vocab_size,
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return wordpiece_tokenizer(models.WordPiece(trained.get_vocab(), unk_token=unknown), lower)


def wordpiece_tokenizer(model: models.WordPiece, lower: bool) -> Tokenizer:
    """BERT's way to split a text, around a vocabulary of WordPiece."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _too_small(vocab_size: int, reason: str) -> Refusal:
    return Refusal(
        f"--vocab_size {vocab_size} is too small: {reason}",
        "--vocab_size",
        "give more; 8000 is usual",
    )


def _alphabet(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """The characters of the texts, and `##x` for those that can stand inside a word: no punctuation, no Chinese."""
    characters = set()
    for text in texts:
        characters.update(text)
    characters = set(
        tokenizer.normalizer.normalize_str("".join(sorted(characters)))
    )  # whatever stands beside them
    characters = {character for character in characters if not character.isspace()}

    def joins(character: str) -> bool:
        word = tokenizer.normalizer.normalize_str(f"a{character}")
        return [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(word)] == [
            f"a{character}"
        ]

    ordered = sorted(characters)
    return ordered, [f"##{character}" for character in ordered if joins(character)]


def _bpe(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(tokens) + len(alphabet):
        raise _too_small(
            vocab_size, f"256 bytes and the special tokens are {len(tokens) + len(alphabet)}"
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lower else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    parts = [
        pre_tokenizers.Metaspace(),
        pre_tokenizers.UnicodeScripts(),
        pre_tokenizers.Punctuation(),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=tokens, unk_token=unknown, show_progress=False
    )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises nothing more specific
        raise _too_small(vocab_size, str(error)) from None
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    ordered = _in_order([(token, score) for token, score in vocabulary if token not in tokens])
    tokenizer.model = models.Unigram(
        [(token, 0.0) for token in tokens] + ordered,
        unk_id=tokens.index(unknown),
        byte_fallback=False,
    )
    return tokenizer


def _in_order(vocabulary: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The trainer's sums run in the order of a hash map: rounded, and sorted, they are the same at every run. Rare
    characters get falling scores in that order, 0.0001 apart, below all others: here they get the lowest one."""
    lowest = min(score for _, score in vocabulary)
    tail = lowest + 1e-4 * sum(len(token) == 1 for token, _ in vocabulary)
    rounded = [
        (token, round(lowest if len(token) == 1 and score <= tail else score, 8))
        for token, score in vocabulary
    ]
    return sorted(rounded, key=lambda pair: (-pair[1], pair[0]))


def _characters(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    """One token a character, line breaks and spaces too; the rarest go where the vocabulary ends."""
    counts = Counter(character for text in texts for character in (text.lower() if lower else text))
    kept = sorted(counts, key=lambda character: (-counts[character], character))[
        : vocab_size - len(tokens)
    ]
    vocabulary = {token: number for number, token in enumerate([*tokens, *sorted(kept)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


ALGORITHMS: dict[str, Any] = {
    "wordpiece": _wordpiece,
    "bpe": _bpe,
    "unigram": _unigram,
    "char": _characters,
}


def add_template(tokenizer: Tokenizer, special: dict[str, str]) -> None:
    """[CLS] a [SEP] b [SEP] for encoders, a </s> for T5's kind; a decoder's texts stay as they are."""
    if special == T5_TOKENS:
        end = special["eos_token"]
        ids = [(end, tokenizer.token_to_id(end))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A $B {end}", special_tokens=ids
        )
    if "cls_token" not in special:
        return
    first, last = special["cls_token"], special["sep_token"]
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=ids
    )


def as_text(tokenizer: Any) -> str:
    """All that decides how a tokenizer splits a text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return fast.to_str() if fast else json.dumps(tokenizer.get_vocab(), sort_keys=True)
