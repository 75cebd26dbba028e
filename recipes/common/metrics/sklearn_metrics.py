"""scikit-learn's and SciPy's metrics behind `evaluate`'s interface.

`evaluate.load("accuracy")` downloads code, or runs ./accuracy/accuracy.py of the current folder; subclasses of
`evaluate.Metric` do neither. A module of its own because the three libraries take as long to import as all else before
the first step: classification.py imports it when there is something to score.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import datasets
import evaluate
import numpy
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as scikit

CLASSES, SCORES, NUMBERS = "classes", "scores", "numbers"
# name -> (what it compares with the references, function of (references, predictions))
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
    "pearsonr": (NUMBERS, lambda references, predictions: pearsonr(references, predictions)[0]),
    "spearmanr": (NUMBERS, lambda references, predictions: spearmanr(references, predictions)[0]),
}


class ScikitMetric(evaluate.Metric):
    """An `evaluate.Metric` by its name in FUNCTIONS: `ScikitMetric("f1").compute(predictions=…, references=…)`."""

    def __init__(self, config_name: str, **options: Any):
        folder = tempfile.mkdtemp(
            prefix="metric-"
        )  # by itself it makes one below the home, which may be read-only
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(config_name=config_name, keep_in_memory=True, cache_dir=folder, **options)

    def _info(self) -> evaluate.MetricInfo:
        compares, _ = FUNCTIONS[self.config_name]
        integer, number = datasets.Value("int64"), datasets.Value("float64")
        many = datasets.Sequence
        variants = {
            CLASSES: [(integer, integer), (many(integer), many(integer))],
            SCORES: [(number, integer), (many(number), integer), (many(number), many(integer))],
            NUMBERS: [(number, number)],
        }[compares]
        features = [
            datasets.Features(predictions=first, references=second) for first, second in variants
        ]
        return evaluate.MetricInfo(description=self.config_name, citation="", features=features)

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, float]:
        _, function = FUNCTIONS[self.config_name]
        return {
            self.config_name: float(
                function(numpy.asarray(references), numpy.asarray(predictions), **options)
            )
        }
