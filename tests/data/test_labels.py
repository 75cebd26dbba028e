"""What a model learns of labels, and what its configuration keeps of them."""

import math

import pytest
from test_label_decision import decide

from recipes.common.data import seen_labels


@pytest.mark.parametrize(
    ("values", "encoded"),
    [
        (["b", None, "a", ""], [1, -100, 0, -100]),
        ([["b", "a"], None, [], ["b"]], [[1.0, 1.0], [-100.0, -100.0], [0.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_a_missing_label_is_encoded_as_minus_100(values, encoded):
    seen = [value for value in values if not seen_labels.is_missing(value)]
    assert decide(seen).encode(values) == encoded


def test_a_missing_rating_is_encoded_as_nan():
    encoded = decide([1.5, 2.5]).encode([1.5, None, 2.5, math.nan])
    assert encoded[::2] == [1.5, 2.5]
    assert math.isnan(encoded[1]) and math.isnan(encoded[3])


def test_ratings_of_a_csv_are_encoded_as_numbers():
    assert decide(["1.5", "2"]).encode(["1.5", "2", ""])[:2] == [1.5, 2.0]


def test_the_configuration_has_both_tables_of_the_classes():
    assert decide(["b", "a"]).config == {
        "id2label": {0: "a", 1: "b"},
        "label2id": {"a": 0, "b": 1},
        "problem_type": "single_label_classification",
    }
    assert decide([["a"], ["b"]]).config["problem_type"] == "multi_label_classification"
    assert decide([0.5, 1.5]).config == {"num_labels": 1, "problem_type": "regression"}
