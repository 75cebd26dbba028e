"""Knows how labels of words mark entities: a prefix and a type (B-PER, I-PER), or O for no entity.

The schemes are IOB, IOBES, BILOU and BMES. The types may be missing in all labels: B, I, O.
"""

from collections.abc import Iterable

# Hugging Face's names of the columns of words and of their labels.
TOKENS, TAGS = "tokens", "tags"
BEGIN, INSIDE, OUTSIDE = "B", "I", "O"
# The prefixes of all schemes, by those of IOBES: BILOU says L for E and U for S, BMES says M for I.
PREFIXES = {BEGIN: BEGIN, INSIDE: INSIDE, "E": "E", "S": "S", "L": "E", "U": "S", "M": INSIDE}


def are_entities(names: Iterable[str]) -> bool:
    """Whether labels mark entities: at least one has a prefix, and all others have one or are O."""
    others = {name for name in names if name != OUTSIDE}
    if BEGIN in others:
        return others <= PREFIXES.keys()
    return bool(others) and all(map(_has_prefix, others))


def _has_prefix(name: str) -> bool:
    return name[:1] in PREFIXES and name[1:2] == "-"


def in_iobes(label: str) -> str:
    """Returns a label with the prefix that IOBES has for it: L-PER -> E-PER."""
    return PREFIXES.get(label[:1], label[:1]) + label[1:]


def continued(label: str) -> str:
    """Returns the label of a further piece of a word: B-PER -> I-PER, B -> I."""
    if label == BEGIN or label.startswith(f"{BEGIN}-"):
        return INSIDE + label[1:]
    return label
