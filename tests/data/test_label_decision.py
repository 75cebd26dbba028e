"""Labels as they stand in the data -> the kind of task, the classes, and what the model learns from."""

import math
from datetime import date

import pytest

from recipes.common.data import label_decision
from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.data.seen_labels import SeenLabels
from recipes.common.runtime.errors import Refusal


def see(values):
    """What is seen of a split whose rows have these labels, at the places row 1, row 2, …"""
    seen = SeenLabels()
    for row, value in enumerate(values, 1):
        seen.add(value, f"row {row}")
    return seen


def decide(train, names=None, do_regression=None, **others):
    splits = {"train": train, **others}
    return label_decision.decide(
        {name: see(values) for name, values in splits.items()}, "label", names, do_regression
    )


# the labels of training -> (kind, names, counts, baseline)
KINDS = {
    "texts": (["b", "a", "b"], SINGLE, ["a", "b"], [1, 2], 1),
    "integers": ([10, 2, 10, 1], SINGLE, ["1", "2", "10"], [1, 1, 2], 2),
    "integers in a CSV": (["10", "2", "10", "1"], SINGLE, ["1", "2", "10"], [1, 1, 2], 2),
    "negative integers": ([1, -1, 0, -1], SINGLE, ["-1", "0", "1"], [2, 1, 1], 0),
    "texts and numbers in a CSV": (["b", "10", "2", "b"], SINGLE, ["2", "10", "b"], [1, 1, 2], 2),
    "truth values": ([True, False, True], SINGLE, ["False", "True"], [1, 2], 1),
    "Chinese": (["好", "差", "好"], SINGLE, ["好", "差"], [2, 1], 0),
    "upper and lower case": (["B", "b", "B"], SINGLE, ["B", "b"], [2, 1], 0),
    "a tie": (["b", "a"], SINGLE, ["a", "b"], [1, 1], 0),
    "lists": ([["b", "a"], ["b"], []], MULTI, ["a", "b"], [1, 2], [0, 1]),
    "lists of integers": ([[10], [2], [10]], MULTI, ["2", "10"], [1, 2], [0, 1]),
    "labels of exactly half of the rows": ([["a"], ["b"]], MULTI, ["a", "b"], [1, 1], [0, 0]),
    "ratings": ([1.5, 2.0, 4.0], REGRESSION, [], [], 2.5),
    "whole ratings": ([1.0, 2.0], REGRESSION, [], [], 1.5),
    "ratings and integers": ([1, 2, 4.5], REGRESSION, [], [], 2.5),
    "ratings in a CSV": (["1.5", "2", "4"], REGRESSION, [], [], 2.5),
    "negative ratings": ([-0.5, 0.25, 1.0], REGRESSION, [], [], 0.25),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_labels_decide_kind_classes_counts_and_baseline(case):
    values, kind, names, counts, baseline = KINDS[case]
    decided = decide(values)
    assert (decided.kind, decided.names, decided.counts) == (kind, names, counts)
    assert decided.baseline == baseline
    assert decided.rows == len(values)


def test_classes_with_a_point_that_are_not_all_numbers_are_classes():
    assert decide(["v1.5", "2.0", "v1.5"]).kind == SINGLE


@pytest.mark.parametrize("values", [[1, 2, 3], ["1", "2", "3"], [1.0, 2.0, 3.0]])
def test_regression_can_be_asked_for(values):
    decided = decide(values, do_regression=True)
    assert (decided.kind, decided.mean) == (REGRESSION, 2.0)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1.0, 2.0, 1.0], ["1.0", "2.0"]),
        (["1.5", "2.0", "1.5"], ["1.5", "2.0"]),
        ([1.0, 1.5, 2.0, 1.5], ["1.0", "1.5", "2.0"]),
    ],
)
def test_regression_can_be_declined_and_every_number_is_a_class(values, names):
    decided = decide(values, do_regression=False)
    assert (decided.kind, decided.names) == (SINGLE, names)
    assert decided.encode(values) == [names.index(str(value)) for value in values]


def test_class_names_make_classes_of_numbers_without_asking():
    assert decide([0, 1, 1], names=["no", "yes"]).kind == SINGLE


@pytest.mark.parametrize(
    "values",
    [[0, 2, 2], ["0", "2", "2"], ["bad", "good", "good"]],
    ids=["integers", "CSV numbers", "their own names"],
)
def test_class_names_fix_the_ids_also_of_classes_that_training_lacks(values):
    decided = decide(values, names=["bad", "fine", "good"])
    assert decided.names == ["bad", "fine", "good"]
    assert decided.counts == [1, 0, 2]
    assert decided.encode(values) == [0, 2, 2]


def test_class_names_of_truth_values_are_those_of_false_and_true():
    decided = decide([True, False, True], names=["bad", "good"])
    assert (decided.names, decided.encode([True, False])) == (["bad", "good"], [1, 0])


def test_class_names_keep_the_order_of_a_trained_model():
    decided = decide(["a", "b"], names=["b", "a"])
    assert decided.encode(["a", "b"]) == [1, 0]


@pytest.mark.parametrize(
    ("values", "names"), [([1, 2, 5], "12345"), ([1, 2, 4], "12345"), ([-1, 1], ["-1", "0", "1"])]
)
def test_numbers_are_classes_by_their_names_where_a_model_knows_them(values, names):
    """By position those of a model that learned from 1 to 5 stars would be one off."""
    decided = decide(values, names=list(names))
    assert decided.encode(values) == [names.index(str(value)) for value in values]


@pytest.mark.parametrize(
    ("train", "other"), [([0, 1], ["pos", "Neg"]), (["pos", "neg"], [1, 0]), ([0, 1], ["1", "0"])]
)
def test_one_file_may_have_the_numbers_of_a_data_set_s_own_classes_and_another_their_names(
    train, other
):
    seen = {"train": see(train), "validation": see(other)}
    found = label_decision.decide(seen, "label", ["neg", "pos"], by_position=True)
    assert found.names == ["neg", "pos"]
    wanted = {0: 0, 1: 1, "0": 0, "1": 1, "neg": 0, "Neg": 0, "pos": 1}
    assert found.encode([*train, *other]) == [wanted[value] for value in [*train, *other]]


def test_numbers_beside_the_names_of_a_user_s_own_classes_stay_unknown():
    with pytest.raises(Refusal, match="unknown"):
        label_decision.decide(
            {"train": see(["neg", "pos"]), "validation": see([0, 1])}, "label", ["neg", "pos"]
        )


@pytest.mark.parametrize("values", [["neg", "pos"], [2, 3]])
def test_one_class_name_is_refused_although_no_row_has_it(values):
    with pytest.raises(Refusal) as refused:
        decide(values, ["good"])
    assert refused.value.where == "--class_names"


def test_a_number_beyond_the_class_names_is_refused_with_its_place():
    with pytest.raises(Refusal, match="label 3 in train is unknown") as caught:
        decide([0, 1, 3], names=["a", "b", "c"])
    assert caught.value.where == "row 3"


def test_classes_come_from_training_and_not_from_the_other_splits():
    decided = decide(["a", "b", "c"], validation=["c", "c"], test=["a"])
    assert (decided.names, decided.counts) == (["a", "b", "c"], [1, 1, 1])


def test_classes_come_from_another_split_where_nothing_is_trained():
    decided = label_decision.decide({"validation": see(["b", "a"])}, "label")
    assert decided.names == ["a", "b"]


def test_no_labels_at_all_are_refused_unless_a_trained_model_brings_its_own():
    with pytest.raises(Refusal, match="no row has a label"):
        label_decision.decide({"test": SeenLabels()}, "label")
    trained = Labels("single_label_classification", ["a", "b"], {"a": 0, "b": 1}, [0, 0], 0, 0.0)
    assert label_decision.decide({"test": SeenLabels()}, "label", trained=trained) == trained


def test_a_class_that_only_the_test_data_has_is_refused():
    with pytest.raises(Refusal, match="label 'c' in test is unknown to training"):
        decide(["a", "b"], test=["c"])


@pytest.mark.parametrize("value", [math.inf, "1e999", "many"])
def test_regression_refuses_what_is_no_finite_number(value):
    with pytest.raises(Refusal, match="is not a number") as caught:
        decide([1.5, value] if isinstance(value, float) else ["1.5", value], do_regression=True)
    assert caught.value.where == "row 2"


def test_a_date_is_no_label():
    with pytest.raises(Refusal, match="a label is a date"):
        decide([date(2024, 1, 1), date(2024, 1, 2)])


@pytest.mark.parametrize("extra", [0, 1])
def test_more_than_20_classes_are_refused_where_they_are_more_than_half_of_the_rows(extra):
    values = [f"class {number}" for number in range(21)]
    if extra == 0:
        assert len(decide(values + values).names) == 21
    else:
        with pytest.raises(Refusal, match="21 different labels in 41 rows"):
            decide(values + values[:20])


def test_a_trained_model_keeps_its_ids_where_the_data_names_its_classes_in_another_order():
    """GLUE's MNLI begins with entailment, roberta-large-mnli with CONTRADICTION."""
    names = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    trained = Labels(
        SINGLE, names, {name: number for number, name in enumerate(names)}, [0] * 3, 0, 0.0
    )
    seen = SeenLabels()
    for value in (0, 1, 2):
        seen.add(value, "row")
    decided = label_decision.decide(
        {"validation": seen}, "label", ["entailment", "neutral", "contradiction"], trained=trained
    )
    assert (decided.names, decided.encode([0, 1, 2])) == (names, [2, 1, 0])
    other = label_decision.decide(
        {"validation": seen}, "label", ["yes", "maybe", "no"], trained=trained
    )
    assert (other.names, other.encode([0, 1, 2])) == (["yes", "maybe", "no"], [0, 1, 2])
