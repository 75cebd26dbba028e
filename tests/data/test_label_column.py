"""Labels as people write them: what a column of cells means, and what is said of it."""

import csv
import json
from dataclasses import dataclass

import pytest
from transformers import TrainingArguments

from recipes.common.config import flags
from recipes.common.data import labels
from recipes.common.data.columns import Columns
from recipes.common.data.labels import MULTI, REGRESSION, SINGLE
from recipes.common.data.splits import load_splits
from recipes.common.runtime.errors import Refusal


@dataclass
class Arguments(flags.LabelArguments, flags.Arguments):
    """Those of a recipe with labels."""


def load(folder, values, test=(), trained=None, **flags):
    """The splits of rows with these labels, in a CSV where all are texts; the training rows are validated on, too."""
    columns = ["food", "price"] if isinstance(values[0], tuple) else ["label"]
    kind = "csv" if all(isinstance(value, str | tuple) for value in values) else "jsonl"
    for name, rows in (("train", values), ("test", test)):
        rows = [value if isinstance(value, tuple) else (value,) for value in rows]
        rows = [
            {"text": f"text {n}", **dict(zip(columns, row, strict=True))}
            for n, row in enumerate(rows)
        ]
        with open(folder / f"{name}.{kind}", "w", encoding="utf-8", newline="") as stream:
            if kind == "csv":
                writer = csv.DictWriter(stream, ["text", *columns])
                writer.writeheader()
                writer.writerows(rows)
            else:
                stream.writelines(json.dumps(row) + "\n" for row in rows)
    own = {
        name: flags.pop(name)
        for name in ("class_names", "do_regression", "label_column_name")
        if name in flags
    }
    flags |= {"test_file": [f"test.{kind}"]} if test else {}
    return load_splits(
        Arguments(train_file=[f"train.{kind}"], validation_file=[f"train.{kind}"], **flags),
        TrainingArguments(
            output_dir="out", use_cpu=True, do_train=True, do_eval=True, do_predict=bool(test)
        ),
        texts=Columns("--text_column_names", [], [("text",)]),
        label=Columns("--label_column_name", [own.pop("label_column_name", None)], [("label",)]),
        trained=trained,
        **own,
    )


class Column:
    """Labels and flags, what they mean, what is learned, and words of what is said."""

    def __init__(self, values, kind, names, learned, *said, **flags):
        self.values, self.kind, self.names = values, kind, names
        self.learned, self.said, self.flags = learned, said, flags


class Refused:
    """Labels and flags that are refused, and words of the refusal."""

    def __init__(self, values, *words, **flags):
        self.values, self.words, self.flags = values, words, flags


class Further:
    """A checkpoint's names, labels and flags, the names that stay, what is learned, and words of what is said."""

    def __init__(self, checkpoint, values, names, learned, *said, **flags):
        self.checkpoint, self.values, self.names = checkpoint, values, names
        self.learned, self.said, self.flags = learned, said, flags


ASPECTS, PLACES = ["food", "price"], ["0", "1", "2"]
VECTORS = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
FOOD = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
COLUMNS = {
    "vectors": Column(
        [[1, 0, 1], [0, 1, 0], [0, 0, 0]], MULTI, PLACES, VECTORS, "[1, 0, 1] means the labels 0, 2"
    ),
    "vectors of floats": Column(VECTORS, MULTI, PLACES, VECTORS, "means"),
    "vectors in cells": Column(
        ["[1, 0, 1]", "[0, 1, 0]", "[0, 0, 0]"], MULTI, PLACES, VECTORS, "means"
    ),
    "numpy's vectors in cells": Column(
        ["[1 0 1]", "[0 1 0]", "[0 0 0]"], MULTI, PLACES, VECTORS, "means"
    ),
    "vectors without brackets": Column(
        ["1,0,1", "0,1,0", "0,0,0"], MULTI, PLACES, VECTORS, "several", "means"
    ),
    "vectors divided by a blank": Column(
        ["1 0 1", "0 1 0", "0 0 0"], MULTI, PLACES, VECTORS, "means", label_delimiter=" "
    ),
    "vectors with names": Column(
        VECTORS, MULTI, list("abc"), VECTORS, "labels a, c", class_names=list("abc")
    ),
    "two places": Column([[0, 1], [1, 0]], MULTI, ["0", "1"], [[0.0, 1.0], [1.0, 0.0]], "means"),
    "lists of ids": Column(
        [[0], [1, 2], [2]], MULTI, PLACES, [[1.0, 0, 0], [0, 1.0, 1.0], [0, 0, 1.0]]
    ),
    "Python's lists in cells": Column(
        ["['food']", "['food', 'price']", "['price']", "[]"], MULTI, ASPECTS, FOOD
    ),
    "JSON's lists in cells": Column(
        ['["food"]', '["food", "price"]', '["price"]', "[]"], MULTI, ASPECTS, FOOD
    ),
    "lists without quotes": Column(
        ["[food]", "[food, price]", "[price]", "[]"], MULTI, ASPECTS, FOOD
    ),
    "commas": Column(
        ["food", "food,price", "price"],
        MULTI,
        ASPECTS,
        FOOD[:3],
        "divided by ','",
        "--label_delimiter none",
    ),
    "commas and blanks": Column(
        ["food", " price , food", "price"], MULTI, ASPECTS, FOOD[:3], "divided by ','"
    ),
    "semicolons": Column(
        ["food", "food; price", "price"], MULTI, ASPECTS, FOOD[:3], "divided by ';'"
    ),
    "bars": Column(["food", "food|price", "price"], MULTI, ASPECTS, FOOD[:3], "divided by '|'"),
    "Chinese commas": Column(
        ["food", "food，price", "price"], MULTI, ASPECTS, FOOD[:3], "divided by '，'"
    ),
    "slashes, as was said": Column(
        ["food", "food/price", "price"], MULTI, ASPECTS, FOOD[:3], label_delimiter="/"
    ),
    "commas within names": Column(
        ["Arts, Culture", "News", "Sport, Health"],
        SINGLE,
        ["Arts, Culture", "News", "Sport, Health"],
        [0, 1, 2],
        "is one label",
        "--label_delimiter ','",
    ),
    "commas within names that repeat": Column(
        ["a, b", "a", "b"], SINGLE, ["a", "a, b", "b"], [1, 0, 2], label_delimiter="none"
    ),
    "commas within the names given": Column(
        ["a, b", "a", "b"], SINGLE, ["a", "b", "a, b"], [2, 0, 1], class_names=["a", "b", "a, b"]
    ),
    "commas between the names given": Column(
        ["b, a"], MULTI, ["a", "b"], [[1.0, 1.0]], "several", class_names=["a", "b"]
    ),
    "a text beside lists": Column(
        ["food", ["food", "price"], ["price"]], MULTI, ASPECTS, FOOD[:3], "a list with one label"
    ),
    "blanks": Column(["neg", " neg", "pos "], SINGLE, ["neg", "pos"], [0, 0, 1]),
    "blanks in lists": Column([["food "], [" food", "price"], ["price"]], MULTI, ASPECTS, FOOD[:3]),
    "0.0 and 1.0": Column(
        [0.0, 1.0, 1.0], SINGLE, ["0", "1"], [0, 1, 1], "0.0 is the class 0", "--do_regression"
    ),
    "0.0 and 1.0 in cells": Column(
        ["0.0", "1.0", "1.0"], SINGLE, ["0", "1"], [0, 1, 1], "0.0 is the class 0"
    ),
    "integers with a gap": Column(
        ["1.0", "", "3.0", "2.0"],
        SINGLE,
        ["1", "2", "3"],
        [0, 2, 1],
        "1.0 is the class 1",
        "no label",
    ),
    "integers with a null": Column(
        [1.0, None, 3.0, 2.0], SINGLE, ["1", "2", "3"], [0, 2, 1], "1.0 is the class 1", "no label"
    ),
    "integers, some with a point": Column(
        ["1", "2.0", "3"], SINGLE, ["1", "2", "3"], [0, 1, 2], "2.0 is the class 2"
    ),
    "whole ratings": Column(
        [1.0, 2.0, 5.0], REGRESSION, [], [1.0, 2.0, 5.0], "1.0 is a rating: --do_regression false"
    ),
    "whole ratings as classes": Column(
        [1.0, 2.0, 5.0], SINGLE, ["1", "2", "5"], [0, 1, 2], do_regression=False
    ),
    "0.0 and 1.0 as numbers": Column([0.0, 1.0], REGRESSION, [], [0.0, 1.0], do_regression=True),
    "ratings": Column(["1.5", "2.0"], REGRESSION, [], [1.5, 2.0]),
    "ratings and nan": Column(
        ["1.5", "nan", "2.0"],
        REGRESSION,
        [],
        [1.5, 2.0],
        "labels spelt 'nan' count as missing",
        "1 of 3 rows skipped: no label",
    ),
    "ratings and NA": Column(
        ["1.5", "NA", "2.0", "NULL", "None"],
        REGRESSION,
        [],
        [1.5, 2.0],
        "'NA'",
        "'NULL'",
        "'None'",
        "3 of 5",
    ),
    "integers and null": Column(["1", "null", "2"], SINGLE, ["1", "2"], [0, 1], "'null'"),
    "classes and nan": Column(["a", "nan", "b"], SINGLE, ["a", "b"], [0, 1], "spelt 'nan'"),
    "a class that is called so": Column(
        ["a", "nan", "b"], SINGLE, ["a", "b", "nan"], [0, 2, 1], class_names=["a", "b", "nan"]
    ),
    "classes and NA": Column(
        ["a", "NA", "b"], SINGLE, ["NA", "a", "b"], [1, 0, 2], "'NA' is a class of its own"
    ),
    "classes and none": Column(["a", "none", "b"], SINGLE, ["a", "b", "none"], [0, 2, 1]),
    "a decimal comma": Column(
        ["3,5", "2,0"], REGRESSION, [], [3.5, 2.0], "3,5 is read as 3.5", do_regression=True
    ),
    "ids with commas": Column(
        ["3,5", "5"], MULTI, ["3", "5"], [[1.0, 1.0], [0.0, 1.0]], label_delimiter=","
    ),
    "upper and lower case": Column(
        ["a", "A", "b"], SINGLE, ["A", "a", "b"], [1, 0, 2], "'A'", "two classes"
    ),
    "five names for 1 to 5": Column(
        ["1", "5", "3", "2", "4"],
        SINGLE,
        list("abcde"),
        [0, 4, 2, 1, 3],
        "1 a, 2 b",
        class_names=list("abcde"),
    ),
    "five names for some of 1 to 5": Column(
        [1, 5, 3], SINGLE, list("abcde"), [0, 4, 2], "1 a, 2 b", class_names=list("abcde")
    ),
    "five names for 0 to 4": Column(
        ["0", "4", "3"], SINGLE, list("abcde"), [0, 4, 3], class_names=list("abcde")
    ),
    "two names for 0 and 4": Column(
        [0, 4, 4], SINGLE, ["no", "yes"], [0, 1, 1], "0 no, 4 yes", class_names=["no", "yes"]
    ),
    "three names for -1, 0, 1": Column(
        ["-1", "0", "1"], SINGLE, list("abc"), [0, 1, 2], "-1 a", class_names=list("abc")
    ),
    "names for 1.0 to 3.0": Column(
        ["1.0", "3.0", "2.0"], SINGLE, list("abc"), [0, 2, 1], "1 a", class_names=list("abc")
    ),
    "names with commas between them": Column(
        [0, 1, 0], SINGLE, ["bad", "good"], [0, 1, 0], class_names=["bad, good"]
    ),
    "names for truth values": Column(
        ["True", "False"], SINGLE, ["no", "yes"], [1, 0], class_names=["no", "yes"]
    ),
    "names in another case": Column(
        ["Good", "BAD"], SINGLE, ["bad", "good"], [1, 0], class_names=["bad", "good"]
    ),
    "a map": Column(
        ["1", "2", "3", "4", "5"],
        SINGLE,
        ["bad", "good"],
        [0, 0, 1, 1],
        "1 of 5 rows skipped: not in --label_map",
        label_map=["1,2=bad 4,5=good"],
    ),
    "a map of words": Column(
        ["1", "4", "5"],
        SINGLE,
        ["bad", "good"],
        [0, 1, 1],
        "no row has the label '2'",
        label_map=["1,2=bad", "4,5=good"],
    ),
    "a map of integers": Column(
        [1, 2, 4], SINGLE, ["bad", "good"], [0, 0, 1], label_map=["1,2=bad 4=good"]
    ),
    "a map of floats": Column(
        [1.0, 2.0, 4.5], SINGLE, ["bad", "good"], [0, 0, 1], label_map=["1,2=bad 4.5=good"]
    ),
    "a map with commas between its names": Column(
        ["0", "1"], SINGLE, ["bad", "good"], [0, 1], label_map=["0=bad,1=good"]
    ),
    "a map with commas and blanks": Column(
        ["0", "1"], SINGLE, ["bad", "good"], [0, 1], label_map=["0=bad, 1=good"]
    ),
    "a map with blanks": Column(
        ["very bad", "good"],
        SINGLE,
        ["negative", "very good"],
        [0, 1],
        label_map=["very bad=negative", "good=very good"],
    ),
    "a map with an order": Column(
        ["n", "p"],
        SINGLE,
        ["good", "bad"],
        [1, 0],
        label_map=["n=bad p=good"],
        class_names=["good", "bad"],
    ),
    "a map of lists": Column(
        [["f"], ["f", "p"], ["p"], ["x"]], MULTI, ASPECTS, FOOD, label_map=["f=food p=price"]
    ),
    "several numbers": Column(
        [[0.5, 0.25], [1.0, 0.0]],
        REGRESSION,
        ["0", "1"],
        [[0.5, 0.25], [1.0, 0.0]],
        "2 numbers per row",
    ),
    "several numbers in cells": Column(
        ["0.5,0.25", "1.0,0.0"],
        REGRESSION,
        ["0", "1"],
        [[0.5, 0.25], [1.0, 0.0]],
        "2 numbers per row",
    ),
    "several whole numbers": Column(
        [[4, 4], [5, 3]], REGRESSION, ["0", "1"], [[4.0, 4.0], [5.0, 3.0]], "2 numbers per row"
    ),
    "several numbers with names": Column(
        [[4, 3], [5, 3]],
        REGRESSION,
        ["a", "b"],
        [[4.0, 3.0], [5.0, 3.0]],
        do_regression=True,
        class_names=["a", "b"],
    ),
    "lists of one number": Column([[0.5], [0.25]], REGRESSION, [], [0.5, 0.25]),
    "a column each": Column(
        [("1", "0"), ("1", "1"), ("0", "1"), ("0", "0")],
        MULTI,
        ASPECTS,
        FOOD,
        label_column_name="food,price",
    ),
    "a column each of floats": Column(
        [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)],
        MULTI,
        ASPECTS,
        FOOD,
        label_column_name="food, price",
    ),
    "a column each of truth values": Column(
        [("True", "False"), ("yes", "true"), ("no", "yes"), (False, False)],
        MULTI,
        ASPECTS,
        FOOD,
        label_column_name="food,price",
    ),
    "a column each, not scored": Column(
        [("1", "0"), ("-1", "-1"), ("", "")],
        MULTI,
        ASPECTS,
        [[1.0, 0.0]],
        "2 of 3 rows skipped: no label",
        label_column_name="food,price",
    ),
    "a column each of numbers": Column(
        [("1", "0.5"), ("2", "0")],
        REGRESSION,
        ASPECTS,
        [[1.0, 0.5], [2.0, 0.0]],
        label_column_name="food,price",
    ),
    "a column each of 0 and 1 as numbers": Column(
        [("1", "0"), ("0", "0")],
        REGRESSION,
        ASPECTS,
        [[1.0, 0.0], [0.0, 0.0]],
        label_column_name="food,price",
        do_regression=True,
    ),
}


STREAMED = {
    "vectors",
    "commas",
    "ratings and NA",
    "integers with a gap",
    "a map",
    "a column each, not scored",
}
CASES = [*((case, False) for case in COLUMNS), *((case, True) for case in sorted(STREAMED))]


@pytest.mark.parametrize(("case", "streaming"), CASES)
def test_a_column_means_what_was_meant(case, streaming, in_tmp_path, capsys):
    column = COLUMNS[case]
    splits = load(in_tmp_path, column.values, streaming=streaming, **column.flags)
    assert (splits.labels.kind, splits.labels.names) == (column.kind, column.names)
    assert list(splits.validation["labels"]) == column.learned
    train = sorted(splits.train, key=lambda row: row["row_id"])
    assert [row["labels"] for row in train] == column.learned
    printed = capsys.readouterr().err
    assert [words for words in column.said if words not in printed] == []
    assert splits.accounting["train"]["used"] == len(column.learned)
    if not column.said:
        assert [line for line in printed.splitlines() if "stand in both" not in line] == []


REFUSED = {
    "a decimal comma or two labels": Refused(
        ["3,5", "2,0"], "'3,5'", "train.csv:2", "--do_regression", "--label_delimiter ,"
    ),
    "names that may begin with 0 or 1": Refused(
        ["1", "2", "3"],
        "do the names start at 0 or at 1",
        "--label_map 1=NAME",
        class_names=list("abcd"),
    ),
    "a label without a name": Refused(
        ["neg", "pos"], "'neg'", "--label_map neg=NAME", class_names=["negative", "positive"]
    ),
    "names for other places": Refused(
        [[1, 0, 1], [0, 1, 0]], "2 class names for vectors of 3 places", class_names=["a", "b"]
    ),
    "a map of nothing": Refused(["1", "2"], "'1' names no class", "--label_map", label_map=["1"]),
    "a map to two classes": Refused(["1", "2"], "'1' is both 'a' and 'b'", label_map=["1=a 1=b"]),
    "a column each, one empty": Refused(
        [("1", "0"), ("1", "")],
        "no value in the column 'price'",
        "train.csv:3",
        label_column_name="food,price",
    ),
    "a column each, one a text": Refused(
        [("1", "0"), ("1", "much")],
        "'much' is not a number",
        "train.csv:3",
        label_column_name="food,price",
    ),
    "a column that is not there": Refused(
        [("1", "0")], "no column 'prize'", "--label_column_name", label_column_name="food,prize"
    ),
    "numbers of another length": Refused(
        [[0.5, 0.5], [0.1]], "2 numbers per row", "train.jsonl:2", do_regression=True
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused_with_a_way_out(case, in_tmp_path):
    with pytest.raises(Refusal) as caught:
        load(in_tmp_path, REFUSED[case].values, **REFUSED[case].flags)
    assert [words for words in REFUSED[case].words if words not in str(caught.value)] == []


def checkpoint(*names, kind=SINGLE, is_trained_further=True):
    """The labels of a checkpoint."""
    ids = {name: position for position, name in enumerate(names)}
    return labels.Labels(kind, list(names), ids, [0] * len(names), 0, 0.0, is_trained_further)


GOES_ON = {
    "the other order": Further(
        ["pos", "neg"],
        ["neg", "pos"],
        ["pos", "neg"],
        [1, 0],
        "the checkpoint's, in its order: pos, neg",
    ),
    "case apart": Further(
        ["NEGATIVE", "POSITIVE"],
        ["positive", "negative"],
        ["NEGATIVE", "POSITIVE"],
        [1, 0],
        "NEGATIVE, POSITIVE",
    ),
    "some of them": Further(
        ["neg", "neutral", "pos"],
        ["pos", "neg"],
        ["neg", "neutral", "pos"],
        [2, 0],
        "the checkpoint's",
    ),
    "their numbers": Further(
        ["neg", "pos"], ["0", "1"], ["neg", "pos"], [0, 1], "the checkpoint's"
    ),
    "their numbers from 1": Further(
        ["bad", "fair", "good"], [1, 2, 3], ["bad", "fair", "good"], [0, 1, 2], "1 bad"
    ),
    "others": Further(
        ["entailment", "contradiction"], ["pos", "neg"], ["neg", "pos"], [1, 0], "not its classes"
    ),
    "another number": Further(list("abc"), ["pos", "neg"], ["neg", "pos"], [1, 0]),
    "as the user says": Further(
        ["pos", "neg"],
        ["n", "p"],
        ["pos", "neg"],
        [1, 0],
        "the checkpoint's",
        label_map=["n=neg p=pos"],
    ),
}


@pytest.mark.parametrize("case", GOES_ON)
def test_a_checkpoint_s_names_decide_the_order_for_training_too(case, in_tmp_path, capsys):
    further = GOES_ON[case]
    splits = load(
        in_tmp_path, further.values, trained=checkpoint(*further.checkpoint), **further.flags
    )
    assert (splits.labels.names, list(splits.validation["labels"])) == (
        further.names,
        further.learned,
    )
    printed = capsys.readouterr().err
    assert [words for words in further.said if words not in printed] == []
    if not further.said:
        assert [line for line in printed.splitlines() if "stand in both" not in line] == []


def test_test_rows_lose_a_label_that_means_none_and_stay(in_tmp_path):
    splits = load(in_tmp_path, ["1", "5"], test=["1", "3", "5", "5 "], label_map=["1=bad 5=good"])
    assert list(splits.test["labels"]) == [0, -100, 1, 1]


def test_ratings_that_are_not_remembered_one_by_one_keep_their_mean(in_tmp_path):
    values = [*(row + 0.5 for row in range(3000)), "nan"]
    splits = load(in_tmp_path, values)
    assert (splits.labels.kind, splits.labels.rows, splits.labels.mean) == (
        REGRESSION,
        3000,
        1500.0,
    )


def test_there_are_cases():
    assert min(map(len, (COLUMNS, REFUSED, GOES_ON))) > 7
