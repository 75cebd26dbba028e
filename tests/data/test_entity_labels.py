"""Which labels of words mark entities, and how the schemes say the same."""

import pytest

from recipes.common.data import entity_labels


@pytest.mark.parametrize(
    "labels",
    [
        ["B-PER", "I-PER", "O", "B-LOC"],  # IOB2
        ["I-PER", "O", "I-LOC"],  # IOB1
        ["B-PER", "I-PER", "E-PER", "O", "S-LOC"],  # IOBES
        ["B-PER", "I-PER", "L-PER", "O", "U-LOC"],  # BILOU
        ["B-PER", "M-PER", "E-PER", "O", "S-LOC"],  # BMES
        ["B", "I", "O"],  # without types
        ["B", "M", "E", "S"],  # words of Chinese texts
    ],
)
def test_labels_of_every_scheme_mark_entities(labels):
    assert entity_labels.are_entities(labels)


@pytest.mark.parametrize(
    "labels", [["NOUN", "VERB"], ["O"], ["0", "1"], ["B-PER", "NOUN"], ["E", "S", "O"], []]
)
def test_other_labels_mark_none(labels):
    assert not entity_labels.are_entities(labels)


@pytest.mark.parametrize(
    ("label", "expected"),
    [("L-PER", "E-PER"), ("U", "S"), ("M-LOC", "I-LOC"), ("B-PER", "B-PER"), ("O", "O")],
)
def test_all_schemes_are_said_in_iobes(label, expected):
    assert entity_labels.in_iobes(label) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [("B-PER", "I-PER"), ("B", "I"), ("I-PER", "I-PER"), ("O", "O"), ("BRAND", "BRAND")],
)
def test_further_pieces_of_a_word_are_inside(label, expected):
    assert entity_labels.continued(label) == expected
