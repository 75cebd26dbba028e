"""Trains a tokenizer on the training text, with the special tokens of the model's family.

Every run gets the same tokens.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

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
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from recipes.common.runtime.errors import Refusal

# The special tokens that each family of architectures is defined with. All others get BERT's.
BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}
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
ENCODER_DECODERS = set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
MASKED = set(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
GPT_LIKE = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - MASKED - ENCODER_DECODERS
# A fitting vocabulary has a token per byte, and TOKENS times the square root of the text's length.
# From LONG characters on, it does not grow any more.
BYTES, TOKENS, LONG = 256, 4, 60_000_000
# A round trip tries PIECES pieces of the text, with PIECE characters each.
PIECES, PIECE = 500, 500


def train_tokenizer(
    texts: Iterable[str],
    algorithm: str | None,
    vocab_size: int,
    model_type: str,
    do_lower_case: bool = False,
) -> PreTrainedTokenizerFast:
    """Returns a tokenizer with at most `vocab_size` tokens that knows every character of `texts`.

    `texts` may be read twice. Without an algorithm, it is the one of the model's family. WordPiece
    forgets how many spaces and line breaks there were, and separates all Chinese characters, as
    BERT does. Byte-level BPE knows every string. Unigram joins Chinese characters to words, which
    it keeps apart from Latin ones.
    """
    if iter(texts) is texts:
        raise TypeError(
            "texts must be readable twice: a list or an object with __iter__, not an iterator"
        )
    special = special_tokens(model_type)
    tokens = list(dict.fromkeys(special.values()))
    train = ALGORITHMS[algorithm or default_algorithm(model_type)]
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
    """Returns a vocabulary size that suits a text.

    There is room for all its characters. A longer text gets more tokens, as the number of different
    words grows (Heaps' law): about 2,000 for 200,000 characters, 4,500 for a million, at most
    32,000.
    """
    length, characters = 0, set()
    for text in texts:
        length += len(text)
        characters.update(text)
        if length > LONG:
            break
    tokens = BYTES + 2 * len(characters) + TOKENS * min(length, LONG) ** 0.5
    return math.ceil(tokens / 100) * 100


def special_tokens(model_type: str) -> dict[str, str]:
    """Returns the special tokens of a model type, by Hugging Face's names."""
    if model_type in T5_LIKE:
        return T5_TOKENS
    if model_type in GPT_LIKE:
        return GPT_TOKENS
    if model_type in ROBERTA_LIKE | ENCODER_DECODERS or _counts_as_roberta(model_type):
        return ROBERTA_TOKENS
    return BERT_TOKENS


def _counts_as_roberta(model_type: str) -> bool:
    """Whether a configuration's own special ids are RoBERTa's: <s> is 0, <pad> is 1, </s> is 2."""
    if model_type not in CONFIG_MAPPING:
        return False
    config = CONFIG_MAPPING[model_type]
    for name, number in {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}.items():
        if getattr(config, name, None) != number:
            return False
    return True


def default_algorithm(model_type: str) -> str:
    """Returns how tokenizers of a model's family are trained.

    BERT's relatives use WordPiece. All others use byte-level BPE: they write texts, or are trained
    on texts with capitals, line breaks and indentation.
    """
    return "wordpiece" if special_tokens(model_type) is BERT_TOKENS else "bpe"


def writes(model_type: str) -> bool:
    """Whether models of a family write texts, where every space counts; WordPiece keeps none."""
    return default_algorithm(model_type) == "bpe"


def round_trip(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], spaces: bool = True
) -> float:
    """Returns the share of the texts' first pieces that come back unchanged from the tokenizer.

    Without `spaces`, differences in spaces do not count.
    """
    pieces = list(islice(_pieces(texts), PIECES))
    if not pieces:
        return 0.0
    encoded = tokenizer(pieces, add_special_tokens=False)["input_ids"]
    decoded = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False)
    if not spaces:
        pieces = list(map(_without_spaces, pieces))
        decoded = list(map(_without_spaces, decoded))
    same = sum(piece == back for piece, back in zip(pieces, decoded, strict=True))
    return same / len(pieces)


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), PIECE):
            yield text[start : start + PIECE]


def _wordpiece(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    """Trains WordPiece so that two runs get the same vocabulary.

    The trainer numbers the pieces `##x` in the order of a hash map, and ties between merges follow
    those numbers. So it gets these pieces beforehand and in order, among the special tokens. They
    must not stay special tokens. So a new tokenizer takes over the vocabulary.
    """
    trained = wordpiece_tokenizer(models.WordPiece(unk_token=unknown), lower)
    alphabet, pieces = _alphabet(texts, trained)
    needed = len(tokens) + len(alphabet) + len(pieces)
    if vocab_size < needed:
        raise _too_small(vocab_size, f"the text alone needs {needed} tokens")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=tokens + pieces,
        limit_alphabet=vocab_size,
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return wordpiece_tokenizer(models.WordPiece(trained.get_vocab(), unk_token=unknown), lower)


def wordpiece_tokenizer(model: models.WordPiece, lower: bool) -> Tokenizer:
    """Returns a tokenizer that splits texts as BERT does, with a vocabulary of WordPiece."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _too_small(vocab_size: int, reason: str) -> Refusal:
    what = f"--vocab_size {vocab_size} is too small: {reason}"
    return Refusal(what, "--vocab_size", "give more; 8000 is usual")


def _alphabet(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Returns the characters of the texts, and `##x` for those that can stand inside a word.

    Punctuation and Chinese characters cannot.
    """
    characters = set()
    for text in texts:
        characters.update(text)
    normalized = tokenizer.normalizer.normalize_str("".join(sorted(characters)))
    ordered = sorted(set(_without_spaces(normalized)))
    pieces = []
    for character in ordered:
        if _continues_a_word(character, tokenizer):
            pieces.append(f"##{character}")
    return ordered, pieces


def _continues_a_word(character: str, tokenizer: Tokenizer) -> bool:
    word = f"a{character}"
    normalized = tokenizer.normalizer.normalize_str(word)
    parts = tokenizer.pre_tokenizer.pre_tokenize_str(normalized)
    return len(parts) == 1 and parts[0][0] == word


def _bpe(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    needed = len(tokens) + len(alphabet)
    if vocab_size < needed:
        raise _too_small(vocab_size, f"256 bytes and the special tokens are {needed}")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC()]
    if lower:
        steps.append(normalizers.Lowercase())
    tokenizer.normalizer = normalizers.Sequence(steps)
    splitters = [
        pre_tokenizers.Metaspace(),
        pre_tokenizers.UnicodeScripts(),
        pre_tokenizers.Punctuation(),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitters)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=tokens, unk_token=unknown, show_progress=False
    )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises nothing more specific
        raise _too_small(vocab_size, str(error)) from None
    trained = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = [(token, score) for token, score in trained if token not in tokens]
    vocabulary = [(token, 0.0) for token in tokens] + _in_order(pieces)
    tokenizer.model = models.Unigram(vocabulary, unk_id=tokens.index(unknown), byte_fallback=False)
    return tokenizer


def _in_order(vocabulary: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Returns a vocabulary of Unigram with scores and order that are the same at every run.

    The trainer adds numbers in the order of a hash map. Rounded, its sums are the same at every
    run. In the same order, it gives rare characters falling scores, 0.0001 apart, below all others.
    Here they all get the lowest score.
    """
    lowest = min(score for _, score in vocabulary)
    characters = sum(len(token) == 1 for token, _ in vocabulary)
    highest_of_rare = lowest + 1e-4 * characters
    rounded = []
    for token, score in vocabulary:
        if len(token) == 1 and score <= highest_of_rare:
            score = lowest
        rounded.append((token, round(score, 8)))
    return sorted(rounded, key=_falling)


def _falling(pair: tuple[str, float]) -> tuple[float, str]:
    """Returns a key that sorts by falling numbers, and equal ones by their texts."""
    text, number = pair
    return -number, text


def _characters(
    texts: Iterable[str], vocab_size: int, tokens: list[str], unknown: str | None, lower: bool
) -> Tokenizer:
    """Makes one token per character, also for line breaks and spaces.

    The rarest characters are left out where the vocabulary is full.
    """
    counts = Counter()
    for text in texts:
        counts.update(text.lower() if lower else text)
    commonest_first = sorted(counts.items(), key=_falling)
    kept = [character for character, _ in commonest_first[: vocab_size - len(tokens)]]
    vocabulary = {token: number for number, token in enumerate([*tokens, *sorted(kept)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


ALGORITHMS: dict[str, Callable[..., Tokenizer]] = {
    "wordpiece": _wordpiece,
    "bpe": _bpe,
    "unigram": _unigram,
    "char": _characters,
}


def add_template(tokenizer: Tokenizer, special: dict[str, str]) -> None:
    """Makes the tokenizer write [CLS] A [SEP] B [SEP] for encoders, and A </s> for T5's relatives.

    A and B are texts. The texts of a decoder stay as they are.
    """
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


def as_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns everything that decides how a tokenizer splits a text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return fast.to_str() if fast else json.dumps(tokenizer.get_vocab(), sort_keys=True)
