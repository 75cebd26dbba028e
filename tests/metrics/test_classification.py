"""Every score on rows that can be counted by hand, against scikit-learn, with its interval."""

import dataclasses
import math

import numpy
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as reference_metrics
from transformers import EvalPrediction

from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.metrics import classification, sklearn_metrics
from recipes.common.runtime.errors import Refusal

ANSWERS = ["yes", "no", "maybe"]


def labels_of(kind, counts=(), mean=0.0):
    names = ANSWERS[: len(counts)]
    values = {name: number for number, name in enumerate(names)}
    return Labels(kind, names, values, list(counts), sum(counts) or 1, mean)


def one_hot(predictions, classes):
    """Scores whose highest is the given class."""
    return numpy.eye(classes)[predictions] * 4


def score(labels, logits, references, name=None):
    return classification.for_labels(labels, name)(
        EvalPrediction(numpy.asarray(logits), numpy.asarray(references))
    )


# Eight rows of two classes: class 1 is hit 3 times, missed once, and given once too often.
TRUE, GIVEN = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0]
TWO = labels_of(SINGLE, (5, 3))


def two(name=None):
    return score(TWO, one_hot(GIVEN, 2), TRUE, name)


def test_two_classes_by_hand():
    found = two()
    assert found["accuracy"] == found["f1_micro"] == 6 / 8
    assert found["precision_no"] == found["recall_no"] == found["f1_no"] == 3 / 4
    assert found["f1_macro"] == (3 / 4 + 3 / 4) / 2
    assert found["matthews_correlation"] == pytest.approx((3 * 3 - 1 * 1) / 16)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("f1", 4 / 7), ("precision", 2 / 4), ("recall", 2 / 3), ("f1_macro", (4 / 7 + 6 / 9) / 2)],
)
def test_for_two_classes_f1_is_that_of_the_second_class_as_at_hugging_face(name, expected):
    true, given = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0, 0, 0]
    assert score(TWO, one_hot(given, 2), true, name)[name] == pytest.approx(expected)


THREE_TRUE, THREE_GIVEN = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2, 0]


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_for_three_classes_it_is_the_mean_over_the_classes(name):
    found = score(labels_of(SINGLE, (4, 3, 3)), one_hot(THREE_GIVEN, 3), THREE_TRUE, name)
    function = {
        "f1": reference_metrics.f1_score,
        "precision": reference_metrics.precision_score,
        "recall": reference_metrics.recall_score,
    }[name]
    assert found[name] == pytest.approx(function(THREE_TRUE, THREE_GIVEN, average="macro"))
    assert found[name] == pytest.approx(sum(found[f"{name}_{answer}"] for answer in ANSWERS) / 3)


def test_three_classes_by_hand():
    found = score(labels_of(SINGLE, (4, 3, 3)), one_hot(THREE_GIVEN, 3), THREE_TRUE)
    assert found["accuracy"] == 7 / 10
    assert (found["precision_yes"], found["recall_yes"]) == (3 / 4, 3 / 4)
    assert (found["precision_no"], found["recall_no"]) == pytest.approx((2 / 3, 2 / 3))
    assert found["matthews_correlation"] == pytest.approx(
        reference_metrics.matthews_corrcoef(THREE_TRUE, THREE_GIVEN)
    )


MULTI_TRUE = numpy.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0], [0, 1]])
MULTI_GIVEN = numpy.array([[1, 0], [1, 0], [0, 1], [0, 0], [1, 1], [0, 1]])


@pytest.mark.parametrize("name", [None, "f1", "precision", "recall"])
def test_several_labels_by_hand(name):
    """Of six true labels five are hit and one is missed. One label is given too often.

    Four rows are right altogether.
    """
    found = score(labels_of(MULTI, (3, 3)), MULTI_GIVEN * 2 - 1, MULTI_TRUE.astype(float), name)
    assert found["accuracy"] == 4 / 6
    assert found["f1_micro"] == pytest.approx(10 / 12)
    assert (found["f1_yes"], found["f1_no"]) == pytest.approx((1.0, 4 / 6))
    assert found["f1_macro"] == pytest.approx((1.0 + 4 / 6) / 2)
    if name:
        assert found[name] == pytest.approx(5 / 6)


def test_ratings_by_hand():
    logits, references = [[1.0], [2.0], [4.0], [5.0]], [1.0, 3.0, 3.0, 5.0]
    found = score(labels_of(REGRESSION, mean=2.0), logits, references)
    assert found["mse"] == (0 + 1 + 1 + 0) / 4
    assert found["mae"] == (0 + 1 + 1 + 0) / 4
    assert found["pearsonr"] == pytest.approx(pearsonr([1, 2, 4, 5], references)[0])
    assert found["spearmanr"] == pytest.approx(spearmanr([1, 2, 4, 5], references)[0])


@pytest.mark.parametrize(("logits", "references"), [([[2.0], [2.0]], [1.0, 3.0]), ([[1.0]], [2.0])])
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_scores_of_ratings_are_finite_where_a_correlation_is_not_defined(logits, references):
    """For predictions that are all alike, and for one row, it is left out, as is ROC-AUC."""
    found = score(labels_of(REGRESSION), logits, references)
    assert found["mse"] == 1.0
    assert all(math.isfinite(value) for value in found.values()), found


def test_rows_without_a_label_are_left_out():
    assert score(TWO, one_hot([*GIVEN, 0, 1], 2), [*TRUE, -100, -100]) == two()
    ratings = labels_of(REGRESSION)
    assert score(ratings, [[1.0], [9.0], [2.0]], [2.0, math.nan, 3.0])["mse"] == 1.0
    several = labels_of(MULTI, (3, 3))
    holed = numpy.vstack([MULTI_TRUE, [[-100, -100]]])
    logits = numpy.vstack([MULTI_GIVEN, [[1, 1]]]) * 2 - 1
    assert score(several, logits, holed) == score(several, logits[:-1], MULTI_TRUE)


@pytest.mark.parametrize(
    ("labels", "logits", "references"),
    [
        (TWO, numpy.zeros((3, 2)), [-100] * 3),
        (labels_of(MULTI, (3, 3)), numpy.zeros((3, 2)), [[-100.0, -100.0]] * 3),
        (labels_of(REGRESSION), numpy.zeros((3, 1)), [math.nan] * 3),
    ],
)
def test_without_any_label_there_are_no_scores(labels, logits, references):
    assert score(labels, logits, references) == {}


@pytest.mark.parametrize(
    ("labels", "logits", "references", "expected"),
    [
        (
            TWO,
            one_hot(GIVEN, 2),
            TRUE,
            {"baseline_accuracy": 4 / 8, "baseline_f1_macro": (8 / 12 + 0) / 2},
        ),
        (
            labels_of(MULTI, (3, 1)),
            MULTI_GIVEN * 2 - 1,
            MULTI_TRUE,
            {"baseline_f1_micro": 2 * 3 / (6 + 6), "baseline_f1_macro": (6 / 9 + 0) / 2},
        ),
        (
            labels_of(REGRESSION, mean=2.0),
            [[0.0], [1.0]],
            [1.0, 4.0],
            {"baseline_mse": (1 + 4) / 2},
        ),
    ],
    ids=["the larger class", "the labels of most training rows", "the mean"],
)
def test_the_baseline_gives_every_text_one_answer_from_training(
    labels, logits, references, expected
):
    found = score(labels, logits, references)
    assert {name: value for name, value in found.items() if "baseline" in name} == pytest.approx(
        expected
    )


def test_the_area_under_the_curve_of_two_classes_counts_the_pairs_in_right_order():
    logits = numpy.array([[0, 1], [0, 2], [0, 3], [0, 4]])
    assert score(TWO, logits, [0, 1, 0, 1])["roc_auc"] == 3 / 4


def test_the_area_under_the_curve_of_three_classes_is_scikit_learn_s():
    logits = one_hot(THREE_GIVEN, 3) + numpy.linspace(0, 1, 30).reshape(10, 3)
    found = score(labels_of(SINGLE, (4, 3, 3)), logits, THREE_TRUE)
    expected = reference_metrics.roc_auc_score(
        THREE_TRUE, classification.probabilities(logits, SINGLE), multi_class="ovr"
    )
    assert found["roc_auc"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "logits", "references"),
    [
        (TWO, one_hot([0, 1, 1], 2), [1, 1, 1]),
        (labels_of(SINGLE, (4, 3, 3)), one_hot([0, 1, 1], 3), [0, 1, 1]),
        (labels_of(MULTI, (3, 3)), [[1, -1], [-1, 1]], [[1, 0], [1, 1]]),
    ],
)
def test_there_is_no_area_where_a_class_does_not_occur(labels, logits, references):
    assert "roc_auc" not in score(labels, logits, references)
    assert score(labels, logits, references, "roc_auc")["accuracy"] >= 0


def test_a_class_that_neither_occurs_nor_is_given_has_a_score_of_0_and_no_warning(recwarn):
    found = score(labels_of(SINGLE, (4, 3, 3)), one_hot([0, 1], 3), [0, 1])
    assert found["f1_maybe"] == found["precision_maybe"] == found["recall_maybe"] == 0
    assert not list(recwarn)


def test_every_score_is_a_plain_number():
    assert all(type(value) is float for value in two("f1").values())


def test_probabilities_are_those_of_the_scores():
    assert classification.probabilities([[0.0, 0.0], [math.log(3), 0.0]], SINGLE).tolist() == [
        pytest.approx([0.5, 0.5]),
        pytest.approx([0.75, 0.25]),
    ]
    assert classification.probabilities([0.0, math.log(3)], MULTI).tolist() == pytest.approx(
        [0.5, 0.75]
    )
    assert classification.probabilities([[2.5]], REGRESSION).tolist() == [[2.5]]


def test_probabilities_of_huge_scores_are_finite():
    assert classification.probabilities([[1e4, -1e4]], SINGLE).tolist() == [[1, 0]]
    assert classification.probabilities([1e4, -1e4], MULTI).tolist() == [1, 0]


def test_decisions_are_the_highest_score_or_every_label_above_one_half():
    assert classification.decisions(numpy.array([[0, 2, 1], [3, 2, 1]]), SINGLE).tolist() == [1, 0]
    assert classification.decisions(numpy.array([[0.1, -0.1, 0.0]]), MULTI).tolist() == [[1, 0, 0]]
    assert classification.decisions(numpy.array([[1.5], [2.5]]), REGRESSION).tolist() == [1.5, 2.5]


def test_how_wrong_a_row_is_by_hand():
    single = classification.row_losses(
        [[0.0, 0.0], [math.log(3), 0.0]], numpy.array([0, 1]), SINGLE
    )
    assert single.tolist() == pytest.approx([math.log(2), math.log(4)])
    several = classification.row_losses([[0.0, math.log(3)]], numpy.array([[1, 0]]), MULTI)
    assert several.tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2])
    ratings = classification.row_losses([[1.0], [4.0]], numpy.array([3.0, 4.0]), REGRESSION)
    assert ratings.tolist() == [4, 0]


def test_the_cross_entropy_is_the_mean_of_the_rows():
    assert score(TWO, numpy.zeros((4, 2)), [0, 1, 0, 1])["cross_entropy"] == pytest.approx(
        math.log(2)
    )


def right(rows, hits):
    """One column: 1 for every row that is right."""
    return (numpy.arange(rows) < hits).astype(float)[:, None]


def share(rows):
    return lambda sums: sums[:, 0] / rows


def test_accuracy_of_nine_tenths_of_1000_rows_is_known_to_two_percent():
    low, high = classification.bootstrap(right(1000, 900), share(1000))
    expected = 1.96 * math.sqrt(0.9 * 0.1 / 1000)  # 0.0186
    assert 0.9 - low == pytest.approx(expected, rel=0.15)
    assert high - 0.9 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("hits", [0, 50])
def test_rows_that_are_all_alike_have_an_interval_of_one_point(hits):
    assert classification.bootstrap(right(50, hits), share(50)) == (hits / 50, hits / 50)


def test_the_seed_decides_the_interval():
    first, second, third = (
        classification.bootstrap(right(40, 30), share(40), seed=seed) for seed in (1, 1, 2)
    )
    assert first == second != third


@pytest.mark.parametrize("rows", [10, 1000])
def test_more_rows_make_a_narrower_interval(rows):
    low, high = classification.bootstrap(right(rows, rows // 2), share(rows))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(rows), rel=0.2)


@pytest.mark.parametrize(
    ("labels", "logits", "references", "names"),
    [
        (TWO, one_hot(GIVEN, 2), TRUE, ["accuracy", "f1_macro"]),
        (
            labels_of(MULTI, (3, 3)),
            MULTI_GIVEN * 2 - 1,
            MULTI_TRUE,
            ["accuracy", "f1_macro", "f1_micro"],
        ),
        (labels_of(REGRESSION), [[1.0], [2.0], [4.0]], [1.0, 3.0, 3.0], ["mse"]),
    ],
)
def test_the_headline_scores_lie_in_their_intervals(labels, logits, references, names):
    found = score(labels, logits, references)
    assert [name.removesuffix("_low") for name in found if name.endswith("_low")] == names
    for name in names:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
        assert found[f"{name}_low"] < found[f"{name}_high"]


@pytest.mark.parametrize("references", [TRUE, [1] * 8], ids=["both classes", "one of them"])
def test_the_interval_of_a_perfect_model_is_one_point(references):
    found = score(TWO, one_hot(references, 2), references)
    for name in ("accuracy", "f1_macro"):
        assert (found[f"{name}_low"], found[name], found[f"{name}_high"]) == (1.0, 1.0, 1.0)


def test_classes_may_be_named_as_what_stands_behind_a_metric():
    """The F1 score of the class `low` is no bound of an interval, that of `macro` no mean."""
    plain = labels_of(SINGLE, (4, 3, 3))
    named = dataclasses.replace(plain, names=["low", "macro", "high"])
    found, expected = (
        score(one, one_hot(THREE_GIVEN, 3), THREE_TRUE, "f1") for one in (named, plain)
    )
    assert "f1_low" not in found
    assert found["f1_macro"] == expected["f1_macro"]
    assert found["f1_low_class"] == expected["f1_yes"]


def test_evaluate_s_interface_works_without_a_network(in_tmp_path):
    (in_tmp_path / "accuracy").mkdir()
    (in_tmp_path / "accuracy/accuracy.py").write_text(
        "raise SystemExit('code of the current folder was run')"
    )
    metric = sklearn_metrics.ScikitMetric("accuracy")
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add(prediction=0, reference=0)
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}


def test_every_name_that_may_be_asked_for_has_its_function():
    assert {
        *classification.FOR_LABELS,
        *classification.FOR_NUMBERS,
    } == sklearn_metrics.FUNCTIONS.keys()
    numbers = {
        name
        for name, (compares, _) in sklearn_metrics.FUNCTIONS.items()
        if compares == sklearn_metrics.NUMBERS
    }
    assert numbers == set(classification.FOR_NUMBERS)


@pytest.mark.parametrize("name", sklearn_metrics.FUNCTIONS)
def test_every_metric_is_scikit_learn_s(name):
    predictions, references = [0.5, 0.1, 0.9, 0.4, 0.8, 0.7], [1, 0, 1, 0, 0, 1]
    compares, function = sklearn_metrics.FUNCTIONS[name]
    if compares == sklearn_metrics.CLASSES:
        predictions = [round(value) for value in predictions]
    assert classification.compute(name, predictions, references) == pytest.approx(
        float(function(references, predictions))
    )


@pytest.mark.parametrize(
    ("kind", "name", "close"),
    [
        (SINGLE, "acuracy", "accuracy"),
        (SINGLE, "mse", ""),
        (REGRESSION, "accuracy", ""),
        (MULTI, "f1macro", "f1_macro"),
        (MULTI, "matthews_correlation", ""),
    ],
)
def test_a_metric_of_another_kind_is_refused_before_anything_runs(kind, name, close):
    with pytest.raises(Refusal, match="no metric") as caught:
        classification.for_labels(labels_of(kind, (2, 2)), name)
    assert (
        f"did you mean {close}?" == caught.value.fix if close else "use one of" in caught.value.fix
    )


def test_the_scores_of_a_model_with_several_outputs_are_its_first():
    logits = one_hot(GIVEN, 2)
    assert (
        classification.for_labels(TWO, None)(
            EvalPrediction((logits, "hidden states"), numpy.array(TRUE))
        )
        == two()
    )


def test_a_correlation_that_chooses_the_best_model_is_zero_where_all_predictions_are_alike():
    labels = Labels(REGRESSION, [], {}, [], 4, 0.5)
    prediction = EvalPrediction(numpy.full((4, 1), 0.5), numpy.array([0.0, 1.0, 2.0, 3.0]))
    assert classification.for_labels(labels, "pearsonr")(prediction)["pearsonr"] == 0.0
    assert "pearsonr" not in classification.for_labels(labels, None)(prediction)
