"""scikit-learn's metrics by the interface of `evaluate`."""

import tempfile

import pytest

from recipes.common.metrics.sklearn_metrics import FUNCTIONS, ScikitMetric


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_metric_leaves_no_folder_behind(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    metric = ScikitMetric(name)
    first = metric.compute(predictions=[1, 0, 1, 0], references=[1, 0, 1, 1])
    again = metric.compute(predictions=[1, 0, 1, 0], references=[1, 0, 1, 1])
    assert first == again
    assert 0 < first[name] <= 1
    assert list(tmp_path.iterdir()) == []


def test_a_metric_counts_what_is_added_batch_by_batch():
    metric = ScikitMetric("accuracy")
    metric.add_batch(predictions=[1, 0], references=[1, 0])
    metric.add_batch(predictions=[1, 0], references=[0, 1])
    assert metric.compute() == {"accuracy": 0.5}
