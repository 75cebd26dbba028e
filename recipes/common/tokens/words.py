"""Turns words into tokens, and gives the label of a word to its first piece."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from recipes.common.data.entity_labels import BEGIN, INSIDE, OUTSIDE, are_entities, continued
from recipes.common.data.labels import MISSING, Labels
from recipes.common.runtime.errors import Refusal

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

NO_WORD = -1  # the word of special tokens and of padding
EncodeWords = Callable[[list[list[str]], list[list[int]] | None], "BatchEncoding"]


class AlignmentFlags(Protocol):
    """Holds the flags that decide which tokens have a label."""

    pad_to_max_length: bool
    label_all_tokens: bool


def aligned(
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    arguments: AlignmentFlags,
    labels: Labels,
) -> EncodeWords:
    """Returns an encode function for (words, labels): token ids, labels, and `word_ids`.

    The first piece of a word has its label, the others have -100, so that a word counts once.
    With --label_all_tokens the others have this label, too; B- becomes I-. Rows without labels have
    -100 alone. `word_ids` says of each token which word it is part of; -1 for none.
    """
    take_words(tokenizer)
    padding = "max_length" if arguments.pad_to_max_length else False
    inside = None
    if arguments.label_all_tokens:
        _check_iob(labels.names)
        inside = continued_ids(labels.names)

    def encode(words: list[list[str]], labels: list[list[int]] | None) -> "BatchEncoding":
        encoded = tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            padding=padding,
        )
        ids = [word_ids(encoded, row) for row in range(len(words))]
        known = labels or [[]] * len(words)
        encoded["word_ids"] = ids
        encoded["labels"] = [_labels(*row, inside) for row in zip(ids, known, strict=True)]
        return encoded

    return encode


def take_words(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Sets a tokenizer up for lists of words: it pads on the right, with spaces before words.

    Byte-level BPE then reads a word as it stands within a text, behind a space. Otherwise it takes
    every word for the beginning of a text, and knows few of them (run_ner.py loads such tokenizers
    with add_prefix_space). Refuses a tokenizer that does not tell which word a token is part of.
    """
    if not tokenizer.is_fast:
        what = "this tokenizer does not tell which word a token is part of"
        fix = "leave out --use_fast_tokenizer false, or choose a model with a fast tokenizer"
        raise Refusal(what, "--model_name_or_path", fix)
    tokenizer.padding_side = "right"  # as labels and word_ids are padded
    first = tokenizer.backend_tokenizer.pre_tokenizer
    if type(first).__name__ == "ByteLevel" and not first.add_prefix_space:
        first.add_prefix_space = True
        tokenizer.add_prefix_space = True
        tokenizer.init_kwargs["add_prefix_space"] = True


def first_pieces(ids: Sequence[int]) -> dict[int, int]:
    """Returns for each word the position of its first piece, if it has one."""
    found: dict[int, int] = {}
    for position, word in enumerate(ids):
        if word != NO_WORD:
            found.setdefault(word, position)
    return found


def continued_ids(names: Sequence[str]) -> dict[int, int]:
    """Maps the label of a word's first piece to the label of its other pieces: B-PER -> I-PER."""
    ids = {name: number for number, name in enumerate(names)}
    return {number: ids.get(continued(name), number) for name, number in ids.items()}


def _check_iob(names: Sequence[str]) -> None:
    """Refuses labels of a scheme in which further pieces of a word have no label (IOBES, BILOU)."""
    if not are_entities(names):
        return
    for name in names:
        if name[0] not in (BEGIN, INSIDE, OUTSIDE):
            what = f"the pieces of a word cannot all be {name}"
            raise Refusal(what, "--label_all_tokens", "leave it out, or write labels as B-, I-, O")


def word_ids(encoded: "BatchEncoding", row: int) -> list[int]:
    """Returns for each token of a row which word it is part of; -1 for none."""
    return [NO_WORD if word is None else word for word in encoded.word_ids(row)]


def _labels(
    ids: Sequence[int], labels: Sequence[int], inside: Mapping[int, int] | None
) -> list[int]:
    """Returns the label of each token of a row."""
    found, before = [], NO_WORD
    for word in ids:
        label: Any = MISSING
        if word != NO_WORD and labels:
            label = labels[word]
            if word == before:
                label = MISSING if inside is None else inside.get(label, label)  # -100 stays
        found.append(label)
        before = word
    return found
