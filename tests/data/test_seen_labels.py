"""What counts as a label, as a missing one, and as a number."""

import math

import pytest
from test_label_decision import see

from recipes.common.data import seen_labels
from recipes.common.runtime.errors import Refusal


@pytest.mark.parametrize("value", [None, "", math.nan])
def test_null_an_empty_cell_and_nan_are_missing(value):
    assert seen_labels.is_missing(value)


@pytest.mark.parametrize("value", ["NA", "None", " ", 0, 0.0, False, [], -100])
def test_nothing_else_is_missing(value):
    assert not seen_labels.is_missing(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("2.5", 2.5),
        (" 3 ", 3.0),
        ("1e2", 100.0),
        ("-1", -1.0),
        (4, 4.0),
        (True, 1.0),
        ("four", None),
        ("", None),
        (None, None),
        ("nan", None),
        (math.inf, None),
        (10**400, None),
        ([1], None),
    ],
)
def test_only_what_spells_a_finite_number_is_one(value, number):
    assert seen_labels.number(value) == number


@pytest.mark.parametrize(
    ("value", "kind"), [([["a"]], "list in a list"), ([{"a": 1}], "dict in a list")]
)
def test_a_list_holds_labels_and_no_lists_of_them(value, kind):
    with pytest.raises(Refusal, match=f"a label is a {kind}"):
        seen_labels.check_types(see([["a"], value]))


def test_ratings_are_not_remembered_one_by_one():
    seen = see([row + 0.5 for row in range(5000)])
    assert len(seen.counts) == len(seen.places) == 1000
    assert seen.rows == 5000
