"""What one cell of labels says by itself."""

import math

import pytest

from recipes.common.data import label_cells

# what a cell holds -> what it says by itself
CELLS = {
    "a text": ("neg", "neg"),
    "blanks around it": (" neg\t", "neg"),
    "a no-break space": ("\u00a0neg", "neg"),
    "nothing": ("", None),
    "blanks alone": ("  ", None),
    "null": (None, None),
    "not a number": (math.nan, None),
    "an integer": (3, 3),
    "a truth value": (False, False),
    "JSON's list": ('["food", "price"]', ["food", "price"]),
    "Python's list": ("['food', 'price']", ["food", "price"]),
    "Python's tuple": ("('food', 'price')", ["food", "price"]),
    "Python's set": ("{'price', 'food'}", ["food", "price"]),
    "an empty list": ("[]", []),
    "a list of one": ("['food']", ["food"]),
    "numpy's list of texts": ("['food' 'price']", ["food", "price"]),
    "numpy's vector": ("[1 0 1]", [1, 0, 1]),
    "numpy's vector of floats": ("[1. 0. 0.5]", [1.0, 0.0, 0.5]),
    "a vector": ("[1, 0, 1]", [1, 0, 1]),
    "blanks within a list": ("[ ' food', 'price ' ]", ["food", "price"]),
    "an apostrophe": ("[\"it's\", 'ok']", ["it's", "ok"]),
    "a list with blanks around": (" [1, 2] ", [1, 2]),
    "a list as it is": (["food ", ""], ["food"]),
    "a text in brackets": ("[unrelated]", "[unrelated]"),
    "a text in parentheses": ("(none)", "(none)"),
    "a number in parentheses": ("(3)", "(3)"),
    "code": ("[__import__('os')]", "[__import__('os')]"),
    "a list in a list": ("[[' a'], 'b']", [[" a"], "b"]),
    "more than is read as a list": ("[" * 5001 + "]" * 5001, "[" * 5001 + "]" * 5001),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_by_itself(case):
    value, meaning = CELLS[case]
    assert label_cells.cell(value) == meaning


@pytest.mark.parametrize("depth", [2, 300, 900, 4000])
def test_a_list_in_a_list_is_one_at_any_depth(depth):
    """Python 3.11's parsers give up at about 1,000 levels, those of 3.13 do not."""
    (item,) = label_cells.cell("[" * depth + "]" * depth)
    assert isinstance(item, list)


def test_there_are_cells():
    assert len(CELLS) > 20
