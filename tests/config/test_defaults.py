"""What follows from the hardware, where nobody has said otherwise."""

import pytest

from recipes.common.config import defaults
from recipes.common.runtime.errors import Refusal


@pytest.mark.parametrize(
    ("values", "workers"),
    [
        ({}, 2),
        ({"dataloader_num_workers": 1}, 1),
        ({"streaming": True}, None),
        ({"use_cpu": True}, None),
    ],
)
def test_beside_a_gpu_processes_make_its_batches(values, workers, monkeypatch):
    """Not of a stream, whose order follows from their number."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    defaults.hardware(values)  # TrainingArguments would look for the GPU itself
    assert values.get("dataloader_num_workers") == workers


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_RANK", "1")
    defaults.hardware({})
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(Refusal, match="more processes than GPUs: this machine has 2"):
        defaults.hardware({})


@pytest.mark.parametrize(
    ("metric", "is_lower"),
    [
        ("loss", True),
        ("eval_loss", True),
        ("perplexity", True),
        ("hamming_loss", True),
        ("max_error", True),
        ("edit_distance", True),
        ("accuracy", False),
        ("f1_macro", False),
        ("lossless_score", False),
    ],
)
def test_the_name_of_a_metric_says_whether_lower_is_better(metric, is_lower):
    assert defaults.lower_is_better(metric) == is_lower
