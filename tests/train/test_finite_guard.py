"""A run whose loss, gradient or weights are not finite ends before they are saved."""

import itertools
import json
import math

import pytest
import transformers

from recipes.common.checkpoints import retention
from recipes.common.runtime.errors import TrainingFailed
from recipes.common.train import finite_guard
from recipes.common.train.samplers import Shuffled

pytest_plugins = ["trainers"]


@pytest.mark.parametrize("flags", [{}, {"max_grad_norm": 0.0}, {"logging_steps": 2}])
def test_weights_that_are_not_finite_stop_the_training(flags, trainer, model):
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="is nan") as caught:
        trainer(logging_nan_inf_filter=False, **flags).train()
    assert caught.value.exit_code == 1
    assert "--learning_rate" in caught.value.fix


def test_a_learning_rate_beyond_all_measure_stops_the_training_before_a_broken_model_is_saved(
    trainer, tmp_path
):
    built = trainer(
        learning_rate=1e38,
        logging_nan_inf_filter=False,
        max_steps=5,
        save_strategy="steps",
        save_steps=1,
    )
    with pytest.raises(TrainingFailed, match="a weight is not finite") as caught:
        built.train()
    assert caught.value.where.startswith("after step 1")
    assert retention.newest(tmp_path / "out") is None


def test_a_broken_model_is_not_saved_between_two_logged_losses(trainer, model, tmp_path):
    """Otherwise --save_total_limit removes the last good checkpoint before the loss is looked at."""
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed):
        trainer(
            logging_nan_inf_filter=False,
            logging_steps=3,
            max_steps=3,
            save_strategy="steps",
            save_steps=1,
        ).train()
    assert retention.newest(tmp_path / "out") is None


def test_a_run_that_logs_no_loss_at_all_is_stopped_too(trainer, model):
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed):
        trainer(logging_nan_inf_filter=False, logging_steps=100).train()


@pytest.mark.parametrize("norm", [1.0, 0.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_run_before_the_step_and_names_the_rows(
    value, norm, trainer, tmp_path
):
    built = trainer(max_steps=6, max_grad_norm=norm, save_strategy="steps", save_steps=1)
    calls = itertools.count(1)
    weight = built.model.classifier.weight
    weight.register_hook(lambda gradient: gradient * value if next(calls) == 3 else gradient)
    with pytest.raises(TrainingFailed, match="the gradient norm is") as caught:
        built.train()
    assert caught.value.where.startswith("after step 2, rows in ")
    assert all(parameter.isfinite().all() for parameter in built.model.parameters())
    assert retention.newest(tmp_path / "out") == tmp_path / "out/checkpoint-2"
    rows = json.loads((tmp_path / "out/not_finite.json").read_text())["rows"]
    assert rows == list(Shuffled(range(12), 1))[8:12]


def test_a_step_that_the_scaler_of_fp16_skips_is_no_failure(trainer):
    built = trainer()
    built.args.fp16 = True
    built.log({"loss": 1.0, "grad_norm": math.inf})
    with pytest.raises(TrainingFailed, match="loss is nan"):
        built.log({"loss": math.nan, "grad_norm": math.inf})


class LateNorm(finite_guard.Norm):
    """A gradient norm as if from a GPU."""

    late = True

    def __init__(self, value, step):
        self.value, self.step = value, step

    def __float__(self):
        return float(self.value)


@pytest.mark.parametrize("step", [1, 2])  # in the midst of an epoch, and its last
@pytest.mark.parametrize(
    "flags", [{}, {"save_strategy": "steps", "save_steps": 1}, {"eval_strategy": "steps"}]
)
def test_a_norm_that_is_known_late_ends_the_run_before_anything_follows(
    flags, step, trainer, tmp_path, monkeypatch
):
    monkeypatch.setattr(finite_guard, "Norm", LateNorm)
    built = trainer(max_steps=6, logging_steps=100, eval_steps=step + 1, **flags)
    built.compute_metrics = lambda prediction: pytest.fail("it is evaluated")
    calls = itertools.count()
    built.model.classifier.weight.register_hook(
        lambda gradient: gradient * (math.nan if next(calls) == step else 1)
    )
    with pytest.raises(TrainingFailed, match="the gradient norm is nan") as caught:
        built.train()
    assert caught.value.where.startswith(f"after step {step}, rows in ")
    saved = tmp_path / f"out/checkpoint-{step}" if "save_steps" in flags else None
    assert retention.newest(tmp_path / "out") == saved
    rows = json.loads((tmp_path / "out/not_finite.json").read_text())["rows"]
    assert rows == list(Shuffled(range(12), 1))[4 * step : 4 * step + 4]


class Overflow(transformers.TrainerCallback):
    """The optimizer's step makes a weight infinite."""

    def on_optimizer_step(self, args, state, control, model=None, **options):
        model.classifier.bias.data[0] = float("inf")


@pytest.mark.parametrize("saved", ["no", "steps"])
def test_weights_that_the_last_step_made_infinite_are_not_published(saved, trainer, tmp_path):
    """No loss follows that step."""
    built = trainer(max_steps=1, save_strategy=saved, save_steps=1)
    built.add_callback(Overflow)
    with pytest.raises(TrainingFailed, match="a weight is not finite"):
        built.train()
    assert retention.newest(tmp_path / "out") is None


def test_a_finite_run_is_not_stopped(trainer):
    built = trainer(logging_nan_inf_filter=False)
    built.train()
    assert built.state.global_step == 2
