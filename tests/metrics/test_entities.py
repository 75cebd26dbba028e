"""Entities and their scores, beside seqeval's."""

import random
from types import SimpleNamespace

import numpy
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score

from recipes.common.data.labels import PER_WORD, Labels
from recipes.common.metrics import entities
from recipes.common.runtime.errors import Refusal

IOB = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]


def splits(names, train=None):
    ids = {name: number for number, name in enumerate(names)}
    counts = [0] * (len(names) - 1) + [9]
    return SimpleNamespace(
        known_labels=Labels(PER_WORD, names, ids, counts, 9, 0.0), train=train, texts=("tokens",)
    )


def scores(names, wanted, found, width=12):
    """The scores of rows of labels, padded as Trainer pads them."""
    ids = {name: number for number, name in enumerate(names)}
    arrays = [numpy.full((len(wanted), width), -100) for _ in range(2)]
    for array, rows in zip(arrays, (found, wanted), strict=True):
        for number, row in enumerate(rows):
            array[number, 1 : 1 + len(row)] = [ids[name] for name in row]
    losses = numpy.full((len(wanted), width), 0.5)
    prediction = SimpleNamespace(
        predictions=(arrays[0], None, losses), label_ids=arrays[1], inputs=None
    )
    return entities.for_words(splits(names))(prediction)


def test_an_entity_is_found_where_its_words_and_its_type_are_right():
    """3 entities; 2 found, 1 of them right: precision 1/2, recall 1/3, F1 2/5; 6 of 8 words."""
    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "O", "O"]]
    found = [["B-PER", "I-PER", "O", "B-PER"], ["O", "O", "O", "O"]]
    result = scores(IOB, wanted, found)
    assert result["precision"] == 1 / 2 and result["recall"] == 1 / 3
    assert result["f1"] == pytest.approx(2 / 5) and result["accuracy"] == 6 / 8
    assert (result["f1_PER"], result["f1_LOC"]) == (pytest.approx(2 / 3), 0)
    assert result["f1_low"] <= result["f1"] <= result["f1_high"]
    assert result["loss"] == 0.5


@pytest.mark.parametrize(
    "labels", [["B", "I", "I", "O", "B"], ["B", "M", "E", "O", "S"], ["B", "I", "L", "O", "U"]]
)
def test_labels_without_types_mark_entities(labels):
    assert entities.entities(labels) == [("span", 0, 2), ("span", 4, 4)]


def test_words_of_a_chinese_text_are_scored_as_entities():
    """Three words, two of them found: precision 2/4, recall 2/3, F1 4/7; 3 of 5 characters."""
    names = ["B", "E", "M", "S"]
    result = scores(names, [["B", "E", "B", "E", "S"]], [["B", "E", "S", "S", "S"]])
    assert (result["precision"], result["recall"]) == (2 / 4, pytest.approx(2 / 3))
    assert result["f1"] == pytest.approx(4 / 7) and result["accuracy"] == 3 / 5
    assert "f1_span" not in result


def test_half_of_an_entity_is_none():
    result = scores(IOB, [["B-PER", "I-PER"]], [["B-PER", "O"]])
    assert (result["f1"], result["accuracy"]) == (0, 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_seqeval(seed):
    drawn = random.Random(seed)
    wanted, found = [
        [[drawn.choice(IOB) for _ in range(1 + row % 9)] for row in range(30)] for _ in range(2)
    ]
    result = scores(IOB, wanted, found)
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert result[name] == pytest.approx(score(wanted, found))


@pytest.mark.parametrize(
    "labels",
    [
        ["B-PER", "I-PER", "I-PER", "O", "B-LOC"],  # IOB2
        ["B-PER", "I-PER", "E-PER", "O", "S-LOC"],  # IOBES
        ["B-PER", "I-PER", "L-PER", "O", "U-LOC"],  # BILOU
        ["B-PER", "M-PER", "E-PER", "O", "S-LOC"],  # BMES
        ["I-PER", "I-PER", "I-PER", "O", "I-LOC"],  # IOB1
    ],
)
def test_every_scheme_marks_the_same_entities(labels):
    assert entities.entities(labels) == [("PER", 0, 2), ("LOC", 4, 4)]


def test_parts_of_speech_are_scored_word_by_word():
    """3 of 4 words; F1 of NOUN 2/3 (one of two found), of VERB 4/5, their mean 11/15."""
    result = scores(["NOUN", "VERB"], [["NOUN", "NOUN", "VERB", "VERB"]], [["NOUN"] + ["VERB"] * 3])
    assert result["accuracy"] == 3 / 4 and "f1" not in result
    assert result["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_the_baseline_gives_each_word_its_most_frequent_label():
    import datasets

    train = datasets.Dataset.from_dict(
        {"tokens": [["Rome", "is"], ["Rome"], ["Rome"]], "labels": [[0, 4], [0], [1]]}
    )
    asked = datasets.Dataset.from_dict(
        {"tokens": [["Rome", "was"]], "word_ids": [[-1, 0, 0, 1, -1]]}
    )
    encoded = numpy.array([[-100, 0, -100, 4, -100]])
    kept = (encoded, None, encoded)
    prediction = SimpleNamespace(predictions=kept, label_ids=encoded, inputs=asked)
    result = entities.for_words(splits(IOB, train))(prediction)
    assert result["baseline_f1"] == result["baseline_accuracy"] == 1.0


def test_no_label_means_no_score():
    assert scores(IOB, [[]], [[]]) == {}


def test_a_metric_that_these_labels_lack_is_refused_with_its_neighbour():
    with pytest.raises(Refusal, match="no metric 'f2'"):
        entities.for_words(splits(IOB), "f2")
    with pytest.raises(Refusal, match="no metric 'f1'"):
        entities.for_words(splits(["NOUN", "VERB"]), "f1")


def test_types_may_be_called_as_the_bounds_of_intervals_are():
    result = scores(["B-low", "B-macro", "O"], [["B-low", "O"]], [["B-low", "O"]])
    assert result["f1_low_class"] == 1.0 and result["f1_low"] <= 1.0
    assert {"f1_low_class", "f1_macro_class"} <= entities.names(
        splits(["B-low", "B-macro"]).known_labels
    )


def test_what_is_kept_of_the_logits():
    """Two tokens of two labels: the odds 3 to 1 give 0.75 and a loss of -ln 0.25 for the other."""
    logits = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]]).log()
    best, probabilities, losses = entities.best_labels(logits, torch.tensor([[1, -100]]))
    assert best.tolist() == [[0, 1]] and probabilities.tolist() == [[pytest.approx(0.75)] * 2]
    assert losses.tolist() == [[pytest.approx(1.3862944), 0.0]]
