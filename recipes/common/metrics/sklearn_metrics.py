"""Gives scikit-learn's and SciPy's metrics the interface of `evaluate`.

`evaluate.load("accuracy")` downloads code, or runs ./accuracy/accuracy.py of the current folder.
Subclasses of `evaluate.Metric` do neither.

The three libraries take as long to import as everything else before the first step. That is why
this is a module of its own: classification.py imports it when there is something to score.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import datasets
import evaluate
import numpy
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as scikit

CLASSES, SCORES, NUMBERS = "classes", "scores", "numbers"


def _pearson(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return pearsonr(references, predictions)[0]


def _spearman(references: numpy.ndarray, predictions: numpy.ndarray) -> float:
    return spearmanr(references, predictions)[0]


# name -> (what is compared with the references, function of (references, predictions))
FUNCTIONS: dict[str, tuple[str, Callable[..., float]]] = {
    "accuracy": (CLASSES, scikit.accuracy_score),
    "f1_macro": (CLASSES, partial(scikit.f1_score, average="macro", zero_division=0)),
    "f1_micro": (CLASSES, partial(scikit.f1_score, average="micro", zero_division=0)),
    "f1": (CLASSES, partial(scikit.f1_score, zero_division=0)),
    "precision": (CLASSES, partial(scikit.precision_score, zero_division=0)),
    "recall": (CLASSES, partial(scikit.recall_score, zero_division=0)),
    "matthews_correlation": (CLASSES, scikit.matthews_corrcoef),
    "roc_auc": (SCORES, scikit.roc_auc_score),
    "mse": (NUMBERS, scikit.mean_squared_error),
    "mae": (NUMBERS, scikit.mean_absolute_error),
    "pearsonr": (NUMBERS, _pearson),
    "spearmanr": (NUMBERS, _spearman),
}


class ScikitMetric(evaluate.Metric):
    """Computes a metric of FUNCTIONS as an `evaluate.Metric`.

    Use it as `ScikitMetric("f1").compute(predictions=…, references=…)`.
    """

    def __init__(self, config_name: str, **options: Any):
        # evaluate makes a folder for each metric. By default it lies below the home folder, which
        # may be read-only. Nothing is written there: the numbers are kept in memory.
        with tempfile.TemporaryDirectory(prefix="metric-") as folder:
            super().__init__(
                config_name=config_name, keep_in_memory=True, cache_dir=folder, **options
            )

    def _info(self) -> evaluate.MetricInfo:
        compares, _ = FUNCTIONS[self.config_name]
        integer, number = datasets.Value("int64"), datasets.Value("float64")
        many = datasets.Sequence
        variants = {
            CLASSES: [(integer, integer), (many(integer), many(integer))],
            SCORES: [(number, integer), (many(number), integer), (many(number), many(integer))],
            NUMBERS: [(number, number)],
        }
        features = [
            datasets.Features(predictions=predictions, references=references)
            for predictions, references in variants[compares]
        ]
        return evaluate.MetricInfo(description=self.config_name, citation="", features=features)

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], **options: Any
    ) -> dict[str, float]:
        _, function = FUNCTIONS[self.config_name]
        value = function(numpy.asarray(references), numpy.asarray(predictions), **options)
        return {self.config_name: float(value)}
